/**
 * What became of an impulse. `logged`: it will be handled, exactly once, whatever dies; if it was
 * for the program itself, it is this input. `lost`: surely not logged, it may be sent again.
 * `unknown`: the connection ended before it was known; sent again it may be handled twice.
 *
 * @typedef {{kind: "logged", input: number} | {kind: "lost"} | {kind: "unknown"}} Fate
 */
/** @typedef {{write: (frame: import("./frames.js").Frame) => void, end: () => void}} Line */
/** Where impulses are handed in. It stays the same when the connection to the node is made anew. */
export class Impulses {
    /**
     * Hands in a message, and says what became of it. An empty destination is the program itself:
     * the usual way, because then its handler decides what to do with it. A message of a contract
     * does this with `.impulse(impulses)`.
     *
     * @param {string} to
     * @param {number} method
     * @param {unknown[] | Uint8Array} args
     * @returns {Promise<Fate>}
     */
    send(to: string, method: number, args: unknown[] | Uint8Array): Promise<Fate>;
    /**
     * Hands in a message until it is logged: again when it was surely not, with a pause. When it is
     * not known, that is what is given back: to send it again may be twice.
     *
     * @param {import("./program.js").Message} message
     * @returns {Promise<Fate>}
     */
    sendUntilLogged(message: import("./program.js").Message): Promise<Fate>;
    /** Whether impulses are taken now. */
    get isPrimary(): boolean;
    get isStopped(): boolean;
    /**
     * Waits until this copy is the primary; false when the program was stopped instead.
     *
     * @returns {Promise<boolean>}
     */
    untilPrimary(): Promise<boolean>;
    /**
     * How many bytes a destination has room for, as the node said last; undefined when it said
     * nothing, and then there is room.
     *
     * @param {string} destination
     */
    room(destination: string): number | undefined;
    /**
     * Waits until there is room for a destination: an impulse of the primary that is `lost` found none.
     *
     * @param {string} destination
     */
    untilRoom(destination: string): Promise<void>;
    /**
     * Ends the connection, and with it `run`. The instance lives on: started again, the program goes
     * on from here.
     */
    stop(): void;
    /** Of the binding. @param {Line} line */
    connected(line: Line): void;
    /** Of the binding. @param {boolean} isPrimary */
    setPrimary(isPrimary: boolean): void;
    /** Of the binding: what was on its way is unknown. */
    disconnected(): void;
    /** Of the binding. @param {import("./frames.js").Frame} frame */
    told({ number, fate, input }: import("./frames.js").Frame): void;
    /** Of the binding. @param {import("./frames.js").Frame} frame */
    credit({ destination, bytes }: import("./frames.js").Frame): void;
    /** Of the binding: waits so long, or until the program is to stop. @param {number} millis */
    pause(millis: number): Promise<void>;
    #private;
}
/**
 * What became of an impulse. `logged`: it will be handled, exactly once, whatever dies; if it was
 * for the program itself, it is this input. `lost`: surely not logged, it may be sent again.
 * `unknown`: the connection ended before it was known; sent again it may be handled twice.
 */
export type Fate = {
    kind: "logged";
    input: number;
} | {
    kind: "lost";
} | {
    kind: "unknown";
};
export type Line = {
    write: (frame: import("./frames.js").Frame) => void;
    end: () => void;
};
