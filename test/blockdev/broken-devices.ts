import { type BlockDevice, type DeviceFeatures, MemoryDevice } from '../../src/blockdev/index.ts';
import { DeviceError } from '../../src/core/index.ts';
import type { DeviceConformanceOptions } from '../../src/testing/index.ts';

/** A device with one defect, and a case of the conformance suite that must notice it. */
export interface BrokenDevice {
  readonly defect: string;
  readonly noticedBy: string;
  readonly make: () => BlockDevice;
  readonly options?: DeviceConformanceOptions;
}

const SECTORS = 400;
const BYTES = 512;

type Overrides = Partial<Record<keyof BlockDevice, unknown>>;

/** A MemoryDevice in which some members are other ones. */
function breaking(override: (inner: MemoryDevice) => Overrides, inner = memory()): BlockDevice {
  const sound: BlockDevice = {
    sectorBytes: inner.sectorBytes,
    physicalSectorBytes: inner.physicalSectorBytes,
    sectorCount: inner.sectorCount,
    readOnly: inner.readOnly,
    features: inner.features,
    read: (sector, target) => inner.read(sector, target),
    write: (sector, source, options) => inner.write(sector, source, options),
    flush: () => inner.flush(),
    discard: (sector, count) => inner.discard(sector, count),
    writeZeroes: (sector, count, options) => inner.writeZeroes(sector, count, options),
    close: () => inner.close(),
  };
  return { ...sound, ...override(inner) } as BlockDevice;
}

function memory(sectorCount = SECTORS): MemoryDevice {
  return new MemoryDevice({ sectorCount });
}

function lacking(inner: MemoryDevice, ...names: (keyof DeviceFeatures)[]): DeviceFeatures {
  return { ...inner.features, ...Object.fromEntries(names.map((name) => [name, false])) };
}

/** Devices that outlive their closing: `medium` keeps the content, `cache` what only the open device knows. */
function reopenable(loses: 'flushed' | 'fua' | 'zeroes'): Pick<BrokenDevice, 'make' | 'options'> {
  const durable = new Map<BlockDevice, Uint8Array>();
  const build = (image: Uint8Array | undefined): BlockDevice => {
    const inner = image === undefined ? memory() : MemoryDevice.fromImage(image);
    let kept = inner.snapshot();
    const keep = (on: boolean) => {
      if (on) kept = inner.snapshot();
      durable.set(device, kept);
    };
    const device: BlockDevice = breaking(
      () => ({
        features: { ...inner.features, writeCache: true },
        write: (sector: number, source: Uint8Array, options?: { fua?: boolean }) => {
          inner.write(sector, source);
          keep(options?.fua === true && loses !== 'fua');
        },
        writeZeroes: (sector: number, count: number) => {
          if (loses === 'zeroes') kept = inner.snapshot();
          inner.writeZeroes(sector, count);
        },
        flush: () => keep(loses === 'fua'),
        close: () => inner.close(),
      }),
      inner,
    );
    durable.set(device, kept);
    return device;
  };
  const reopen = (device: BlockDevice) => {
    device.close();
    return build(durable.get(device));
  };
  return { make: () => build(undefined), options: { reopen } };
}

function keepsSource(inner: MemoryDevice): Overrides {
  const views = new Map<number, Uint8Array>();
  return {
    write: (sector: number, source: Uint8Array) => {
      inner.write(sector, source);
      views.set(sector, source);
    },
    read: (sector: number, target: Uint8Array) => {
      for (const [at, view] of views) inner.write(at, view);
      inner.read(sector, target);
    },
  };
}

function keepsTarget(inner: MemoryDevice): Overrides {
  let last: { sector: number; target: Uint8Array } | undefined;
  return {
    read: (sector: number, target: Uint8Array) => {
      inner.read(sector, target);
      last = { sector, target };
    },
    write: (sector: number, source: Uint8Array) => {
      inner.write(sector, source);
      if (last !== undefined) inner.read(last.sector, last.target);
    },
  };
}

function dropsWriteAfterLongZeroing(inner: MemoryDevice): Overrides {
  let drop = false;
  return {
    writeZeroes: (sector: number, count: number) => {
      inner.writeZeroes(sector, count);
      drop = count > 20 && sector > 40;
    },
    write: (sector: number, source: Uint8Array) => {
      if (!drop) inner.write(sector, source);
      drop = false;
    },
  };
}

function readOnlyThatDiscards(image: Uint8Array): BlockDevice {
  const inner = MemoryDevice.fromImage(image);
  const refuse = () => {
    throw new DeviceError('EROFS', 'read-only');
  };
  return breaking(() => ({ readOnly: true, write: refuse, writeZeroes: refuse }), inner);
}

const shared = memory();

export const BROKEN_DEVICES: readonly BrokenDevice[] = [
  { defect: 'keeps a view of the source', noticedBy: 'no view of a source is kept', make: () => breaking(keepsSource) },
  { defect: 'keeps a view of the target', noticedBy: 'no view of a target is kept', make: () => breaking(keepsTarget) },
  {
    defect: 'scribbles on the source',
    noticedBy: 'no view of a source is kept',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array) => {
          inner.write(sector, source);
          source[0] = (source[0] ?? 0) ^ 1;
        },
      })),
  },
  {
    defect: 'ignores where in its buffer a view starts',
    noticedBy: 'a transfer touches only its buffer',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array) =>
          inner.write(sector, source instanceof Uint8Array ? new Uint8Array(source.buffer, 0, source.length) : source),
      })),
  },
  {
    defect: 'has one sector more than it says',
    noticedBy: 'writes outside the device are EINVAL and change nothing',
    make: () => breaking(() => ({ sectorCount: SECTORS }), memory(SECTORS + 1)),
  },
  {
    defect: 'has one sector fewer than it says',
    noticedBy: 'the last sector is usable',
    make: () => breaking(() => ({ sectorCount: SECTORS }), memory(SECTORS - 1)),
  },
  {
    defect: 'drops the last sector of a long write',
    noticedBy: 'transfers cross every power-of-two boundary',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array) =>
          inner.write(sector, source.length > 8 * BYTES ? source.subarray(0, -BYTES) : source),
      })),
  },
  {
    defect: 'writes one sector too many',
    noticedBy: 'a write leaves its neighbours alone',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array) => {
          inner.write(sector, source);
          if (sector + source.length / BYTES < SECTORS) inner.writeZeroes(sector + source.length / BYTES, 1);
        },
      })),
  },
  {
    defect: 'leaves the target of an unwritten sector as it was',
    noticedBy: 'unwritten sectors read as zeros',
    make: () =>
      breaking((inner) => ({
        read: (sector: number, target: Uint8Array) => {
          if (inner.allocatedBytes > 0) inner.read(sector, target);
        },
      })),
  },
  {
    defect: 'loses the high bits of an address',
    noticedBy: 'every address is its own',
    make: () =>
      breaking((inner) => ({
        read: (sector: number, target: Uint8Array) => inner.read(sector % 256, target),
        write: (sector: number, source: Uint8Array) => inner.write(sector % 256, source),
      })),
  },
  {
    defect: 'writes what fits before it refuses the rest',
    noticedBy: 'writes outside the device are EINVAL and change nothing',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array) => {
          const fits = (SECTORS - sector) * BYTES;
          if (fits > 0 && fits < source.length) inner.write(sector, source.subarray(0, fits));
          inner.write(sector, source);
        },
      })),
  },
  {
    defect: 'refuses with a RangeError',
    noticedBy: 'reads outside the device are EINVAL',
    make: () =>
      breaking((inner) => ({
        read: (sector: number, target: Uint8Array) => {
          if (sector >= SECTORS) throw new RangeError('outside');
          inner.read(sector, target);
        },
      })),
  },
  {
    defect: 'takes any array for a buffer',
    noticedBy: 'wrong argument types are TypeErrors',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array) => inner.write(sector, new Uint8Array(source)),
      })),
  },
  {
    defect: 'pads a buffer that is no whole sector',
    noticedBy: 'buffers are whole sectors',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array) => {
          if (!(source instanceof Uint8Array)) throw new TypeError('source');
          const padded = new Uint8Array(Math.ceil(source.length / BYTES) * BYTES);
          padded.set(source);
          inner.write(sector, padded);
        },
      })),
  },
  {
    defect: 'zeroes one sector too few',
    noticedBy: 'writeZeroes clears exactly its range',
    make: () =>
      breaking((inner) => ({
        writeZeroes: (sector: number, count: number) => inner.writeZeroes(sector, count > 1 ? count - 1 : count),
      })),
  },
  {
    defect: 'checks no range of a discard',
    noticedBy: 'ranges to discard or zero are checked',
    make: () => breaking(() => ({ discard: () => undefined })),
  },
  {
    defect: 'discards a neighbour too',
    noticedBy: 'discard touches only its range',
    make: () =>
      breaking((inner) => ({
        discard: (sector: number, count: number) => inner.discard(sector, sector + count < SECTORS ? count + 1 : count),
      })),
  },
  {
    defect: 'fills discarded sectors with ones',
    noticedBy: 'discard touches only its range',
    make: () =>
      breaking((inner) => ({
        discard: (sector: number, count: number) => {
          inner.discard(sector, count);
          inner.write(sector, new Uint8Array(count * BYTES).fill(0xff));
        },
      })),
  },
  {
    defect: 'drops FUA writes',
    noticedBy: 'FUA writes read back',
    make: () =>
      breaking((inner) => ({
        write: (sector: number, source: Uint8Array, options?: { fua?: boolean }) => {
          if (options?.fua !== true) inner.write(sector, source);
        },
      })),
  },
  {
    defect: 'pretends to do what its manifest denies',
    noticedBy: 'an absent ability is ENOTSUP',
    make: () => breaking((inner) => ({ features: lacking(inner, 'fua') })),
  },
  {
    defect: 'denies what its manifest promises',
    noticedBy: 'flush changes no content',
    make: () =>
      breaking(() => ({
        flush: () => {
          throw new DeviceError('ENOTSUP', 'no flush');
        },
      })),
  },
  {
    defect: 'has a cache and no flush',
    noticedBy: 'fields and manifest are well formed',
    make: () => breaking((inner) => ({ features: { ...lacking(inner, 'flush'), writeCache: true } })),
  },
  {
    defect: 'works on after close',
    noticedBy: 'close is final, and may be repeated',
    make: () => breaking(() => ({ close: () => undefined })),
  },
  {
    defect: 'shares its storage with another device',
    noticedBy: 'two devices share nothing',
    make: () => breaking(() => ({ close: () => undefined }), shared),
  },
  {
    defect: 'drops a write after a long zeroing',
    noticedBy: 'random operations agree with a model, at the end',
    make: () => breaking(dropsWriteAfterLongZeroing),
  },
  {
    defect: 'lets a read-only disk be discarded',
    noticedBy: 'a read-only device refuses every change',
    make: () => breaking(() => ({})),
    options: { makeReadOnly: readOnlyThatDiscards },
  },
  {
    defect: 'forgets what was flushed',
    noticedBy: 'flushed writes survive reopening',
    ...reopenable('flushed'),
  },
  { defect: 'forgets FUA writes', noticedBy: 'FUA writes survive reopening', ...reopenable('fua') },
  { defect: 'forgets zeroed sectors', noticedBy: 'zeroed sectors survive reopening', ...reopenable('zeroes') },
];
