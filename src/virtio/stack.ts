import type { BlockDevice } from '../blockdev/index.ts';
import type { VirtioBlkDriverOptions } from './blk-channel.ts';
import { BlkDevice, type BlkDeviceOptions } from './blk-device.ts';
import { VirtioBlkDriver } from './blk-driver.ts';
import { driverMemoryBytes } from './driver-memory.ts';
import { FlatMemory } from './memory.ts';
import { MmioTransport } from './mmio.ts';

export interface VirtioStackOptions {
  /** What it withholds, the transport does not offer either. */
  readonly device?: BlkDeviceOptions;
  readonly driver?: Omit<VirtioBlkDriverOptions, 'start'>;
  /** Guest-physical address at which memory begins; above 4 GiB, all 64 bits of an address matter. Default 0. */
  readonly memoryBase?: number;
}

/** Driver, transport and device over one backend, each also to be had by itself. */
export interface VirtioStack {
  readonly driver: VirtioBlkDriver;
  readonly device: BlkDevice;
  readonly transport: MmioTransport;
  readonly memory: FlatMemory;
  /**
   * Power on again, with `backend` behind the device: reset and the whole handshake, on the same guest memory. It costs
   * microseconds and allocates next to nothing. The former backend stays the caller's, open or not.
   */
  restart(backend: BlockDevice): void;
}

/**
 * Puts a block device behind a virtio ring: `stack.driver` is the same disk, and every byte goes through registers,
 * ring and guest memory.
 * @param backend stays the caller's: closing the driver does not close it
 */
export function virtioStack(backend: BlockDevice, options: VirtioStackOptions = {}): VirtioStack {
  const start = options.memoryBase ?? 0;
  const driverOptions = { ...options.driver, start };
  const memory = new FlatMemory(driverMemoryBytes(driverOptions), start);
  const device = new BlkDevice(backend, memory, options.device);
  const transport = new MmioTransport(device, memory, { withhold: options.device?.withhold ?? [] });
  const driver = new VirtioBlkDriver(transport, memory, driverOptions);
  const restart = (next: BlockDevice): void => {
    device.attach(next);
    transport.powerOn();
    driver.restart();
  };
  return { driver, device, transport, memory, restart };
}

/**
 * The layer that an exploration puts between a scenario and the disk (`through` of its options): one virtio stack, built
 * at the first call and restarted, with its whole handshake, for each later backend. Guest memory is the one thing that
 * is kept, as on a machine that is reset.
 */
export function virtioThrough(options: VirtioStackOptions = {}): (backend: BlockDevice) => BlockDevice {
  let stack: VirtioStack | undefined;
  return (backend) => {
    if (stack === undefined) stack = virtioStack(backend, options);
    else stack.restart(backend);
    return stack.driver;
  };
}
