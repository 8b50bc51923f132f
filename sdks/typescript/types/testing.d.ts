/**
 * @typedef {object} ClusterOptions
 * @property {number} [nodes] 3
 * @property {string} [binary] the program; see `findBinary`
 * @property {string} [folder] where the data is; kept afterwards. Without it a temporary folder
 * @property {string[]} [arguments] further arguments of each node, such as `["--auth"]`
 */
/**
 * Starts a cluster, and waits until it takes writes.
 *
 * @param {ClusterOptions} [options]
 * @returns {Promise<Cluster>}
 */
export function cluster(options?: ClusterOptions): Promise<Cluster>;
/**
 * The program: `$AMRITA_BINARY`, or `amrita` in the `PATH`, or in `target/release` or `target/debug`
 * of a folder above this one.
 *
 * @returns {string}
 */
export function findBinary(): string;
export class Cluster {
    /**
     * @param {ClusterOptions} options
     * @param {number[]} ports
     */
    constructor(options: ClusterOptions, ports: number[]);
    /** Where the data is. */
    folder: string;
    nodes: Node[];
    /** @returns {string[]} */
    get addresses(): string[];
    /**
     * @param {import("./cluster.js").ClientOptions} [options]
     */
    client(options?: import("./cluster.js").ClientOptions): Client;
    /** @param {string} id such as `n1` */
    node(id: string): Node;
    /** Starts all nodes that do not run, and waits until writes are taken. */
    startAll(): Promise<void>;
    /**
     * Starts a node again, and waits until it serves.
     *
     * @param {string} id
     */
    start(id: string): Promise<void>;
    /**
     * Kills a node as a power cut would (`kill -9`), and waits until it is gone.
     *
     * @param {string} id
     */
    kill(id: string): Promise<void>;
    /**
     * Stops a node for a while, as a machine that hangs: `thaw` lets it go on.
     *
     * @param {string} id
     */
    freeze(id: string): void;
    /** @param {string} id */
    thaw(id: string): void;
    /** Waits until each node that runs serves, and all partitions have owners. */
    ready(): Promise<void>;
    /**
     * The node that owns a document now.
     *
     * @param {string} link
     * @returns {Promise<string>} its id
     */
    ownerOf(link: string): Promise<string>;
    /** Stops all nodes and removes the temporary folder. */
    stop(): Promise<void>;
    /** For the end of the process: does not wait. */
    killAll(): void;
    #private;
}
export type ClusterOptions = {
    /**
     * 3
     */
    nodes?: number | undefined;
    /**
     * the program; see `findBinary`
     */
    binary?: string | undefined;
    /**
     * where the data is; kept afterwards. Without it a temporary folder
     */
    folder?: string | undefined;
    /**
     * further arguments of each node, such as `["--auth"]`
     */
    arguments?: string[] | undefined;
};
/** One node of a cluster. */
declare class Node {
    /**
     * @param {string} id
     * @param {number} port
     * @param {string} sandbox
     */
    constructor(id: string, port: number, sandbox: string);
    id: string;
    port: number;
    address: string;
    /** Its folder; the socket for immortals is in it. */
    sandbox: string;
    log: string;
    /** @type {import("node:child_process").ChildProcess | undefined} */
    process: import("node:child_process").ChildProcess | undefined;
    get isRunning(): boolean;
}
import { Client } from "./client.js";
export {};
