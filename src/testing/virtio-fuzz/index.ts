export type { Arena as FuzzArena } from './arena.ts';
export {
  EPISODE_OPERATIONS,
  fuzzVirtio,
  type VirtioFuzzFailure,
  type VirtioFuzzOptions,
  type VirtioFuzzReport,
} from './fuzz.ts';
export type { FuzzTarget } from './hostile-guest.ts';
