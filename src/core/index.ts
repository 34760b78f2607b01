export { equalBytes, getU64, setU64, toHex, viewOf } from './bytes.ts';
export { type Choices, undisturbed } from './choices.ts';
export { type Clock, systemClock, VirtualClock } from './clock.ts';
export { CodedError, codeOf, DeviceError, type ErrorCode, messageOf } from './errors.ts';
export { assertBytes, assertInteger, assertPowerOfTwo, assertString, describeValue, invariant } from './guards.ts';
export { type Prng, Sfc32 } from './prng.ts';
export { assertSocketPath } from './socket-path.ts';
export { type Cancel, systemTimers, type Timers, VirtualTimers } from './timers.ts';
export { isThenable, runAsync, runWork, settled, type Work } from './work.ts';
