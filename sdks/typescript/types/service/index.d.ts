export { ServiceError } from "./runner.js";
export type ServiceOptions = import("./service.js").ServiceOptions;
export type RunOptions = import("./runner.js").RunOptions;
export { Call, Refusal, Service, service } from "./service.js";
