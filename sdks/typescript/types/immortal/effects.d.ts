/**
 * The effects of one term as primary. What is being done when the term ends gives no result, and
 * the next primary does it again.
 */
export class Effects {
    /**
     * @param {string} instance
     * @param {number} frameBytesMax
     * @param {(frame: import("./frames.js").Frame) => void} write
     */
    constructor(instance: string, frameBytesMax: number, write: (frame: import("./frames.js").Frame) => void);
    /**
     * @param {import("./program.js").Program<any>} program the version that has asked for it
     * @param {import("./machine.js").Job} job
     */
    begin(program: import("./program.js").Program<any>, job: import("./machine.js").Job): void;
    end(): void;
    #private;
}
