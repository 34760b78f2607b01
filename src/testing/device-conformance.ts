import type { BlockDevice } from '../blockdev/index.ts';
import type {
  ConformanceCase,
  DeviceBench,
  DeviceCaseSpec,
  DeviceConformanceOptions,
  DeviceNeed,
} from './device-case-types.ts';
import { DEVICE_CASES } from './device-cases.ts';

/** Fewer sectors leave no room for neighbours on both sides of a multi-sector transfer. */
const MIN_SECTOR_COUNT = 16;

/**
 * The conformance suite of {@link BlockDevice}: a list of cases to hand to any test runner.
 *
 * @param makeDevice a new device of at least 16 sectors that reads as zeros; devices share no storage. It is called
 *   once at once, to see what the device offers, and once or twice by each case; every device is closed again.
 */
export function deviceConformance(
  makeDevice: () => BlockDevice,
  options: DeviceConformanceOptions = {},
): ConformanceCase[] {
  const bench: DeviceBench = { seed: 1, stepCount: 400, ...options, make: makeDevice };
  const probe = makeDevice();
  probe.close();
  if (probe.sectorCount < MIN_SECTOR_COUNT) {
    throw new RangeError(
      `makeDevice: expected a device of at least ${MIN_SECTOR_COUNT} sectors, got ${probe.sectorCount}`,
    );
  }
  return DEVICE_CASES.map((spec) => toCase(spec, probe, bench));
}

function toCase(spec: DeviceCaseSpec, probe: BlockDevice, bench: DeviceBench): ConformanceCase {
  for (const need of spec.needs) {
    const skip = lacks(need, probe, bench);
    if (skip !== undefined) return { name: spec.name, skip, run: () => refuseToRun(spec.name, skip) };
  }
  return { name: spec.name, run: () => runCase(spec, bench) };
}

function lacks(need: DeviceNeed, probe: BlockDevice, bench: DeviceBench): string | undefined {
  switch (need) {
    case 'writable':
      return probe.readOnly ? 'the device is read-only' : undefined;
    case 'reopen':
      return bench.reopen === undefined ? 'the maker cannot reopen a device' : undefined;
    case 'makeReadOnly':
      return bench.makeReadOnly === undefined ? 'the maker makes no read-only device' : undefined;
    case 'writeThrough':
      return probe.features.writeCache ? 'the device has a volatile cache' : undefined;
    default:
      return probe.features[need] ? undefined : `the device does not offer ${need}`;
  }
}

function refuseToRun(name: string, skip: string): never {
  throw new Error(`"${name}" is to be skipped: ${skip}`);
}

function runCase(spec: DeviceCaseSpec, bench: DeviceBench): void {
  const device = bench.make();
  try {
    spec.body(device, bench);
  } finally {
    device.close();
  }
}
