import type { BlockDevice } from '../../blockdev/index.ts';

/** What stands behind a served disk: a device that may know which of its sectors occupy nothing. */
export interface Medium extends BlockDevice {
  /**
   * How far the sectors from `sector` on, at most `sectorCount`, are alike in whether they occupy room. Absent: all do.
   * @returns their number: positive where they do, negative where they do not and read as zeros
   */
  extent?(sector: number, sectorCount: number): number;
}
