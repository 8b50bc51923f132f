/**
 * The effects of one term as primary. What is being done when the term ends gives no result, and
 * the next primary does it again.
 */
export class Effects {
    /**
     * @param {import("./program.js").Program<any>} program
     * @param {string} instance
     * @param {number} frameBytesMax
     * @param {(frame: import("./frames.js").Frame) => void} write
     */
    constructor(program: import("./program.js").Program<any>, instance: string, frameBytesMax: number, write: (frame: import("./frames.js").Frame) => void);
    /** @param {import("./machine.js").Job} job */
    begin(job: import("./machine.js").Job): void;
    end(): void;
    #private;
}
