import type { BlockDevice } from '../blockdev/index.ts';

/** One check of a contract, free of any test framework: `run` returns, or throws an Error that says what broke. */
export interface ConformanceCase {
  readonly name: string;
  /** Why the case does not apply here. `run` throws then: a skip is to be reported, not run. */
  readonly skip?: string;
  run(): void;
}

/** What a device's maker can do beside making one. Every absent part shows as skipped cases with their reason. */
export interface DeviceConformanceOptions {
  /** A read-only device whose first sectors hold `image` (whole sectors). The image is the caller's. */
  readonly makeReadOnly?: (image: Uint8Array) => BlockDevice;
  /** Closes `device` and opens the same medium again. */
  readonly reopen?: (device: BlockDevice) => BlockDevice;
  /** Seed of the random cases. Default 1. */
  readonly seed?: number;
  /** Operations in each random case. Default 400. */
  readonly stepCount?: number;
}

/** What a case works with: the options with their defaults filled in, and the maker for a second device. */
export interface DeviceBench extends DeviceConformanceOptions {
  readonly make: () => BlockDevice;
  readonly seed: number;
  readonly stepCount: number;
}

/** What a case needs of a device or its maker. */
export type DeviceNeed =
  | 'writable'
  | 'flush'
  | 'fua'
  | 'discard'
  | 'writeZeroes'
  | 'writeThrough'
  | 'reopen'
  | 'makeReadOnly';

/** A case as the tables hold it: `body` gets a fresh device, which is closed for it. */
export interface DeviceCaseSpec {
  readonly name: string;
  readonly needs: readonly DeviceNeed[];
  readonly body: (device: BlockDevice, bench: DeviceBench) => void;
}
