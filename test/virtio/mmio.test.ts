import { beforeEach, describe, expect, it } from 'vitest';
import {
  BLK_F_CONFIG_WCE,
  BLK_F_FLUSH,
  BLK_S_OK,
  BLK_T_FLUSH,
  type BlkDeviceOptions,
  CONFIG,
  CONFIG_BYTES,
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_RING_RESET,
  F_VERSION_1,
  featureWords,
  hasFeature,
  INTERRUPT_CONFIG,
  INTERRUPT_USED,
  REG_CONFIG,
  REG_CONFIG_GENERATION,
  REG_DEVICE_FEATURES,
  REG_DEVICE_FEATURES_SEL,
  REG_DEVICE_ID,
  REG_DRIVER_FEATURES,
  REG_DRIVER_FEATURES_SEL,
  REG_INTERRUPT_ACK,
  REG_INTERRUPT_STATUS,
  REG_MAGIC_VALUE,
  REG_QUEUE_DESC_LOW,
  REG_QUEUE_NOTIFY,
  REG_QUEUE_NUM,
  REG_QUEUE_NUM_MAX,
  REG_QUEUE_READY,
  REG_QUEUE_RESET,
  REG_QUEUE_SEL,
  REG_SHM_BASE_HIGH,
  REG_SHM_BASE_LOW,
  REG_SHM_LEN_HIGH,
  REG_SHM_LEN_LOW,
  REG_SHM_SEL,
  REG_STATUS,
  REG_VENDOR_ID,
  REG_VERSION,
  STATUS_ACKNOWLEDGE,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FAILED,
  STATUS_FEATURES_OK,
  STATUS_NEEDS_RESET,
} from '../../src/virtio/index.ts';
import { RINGS, type RingKind } from './guest-queue.ts';
import { Guest, type GuestOptions, header, LoggingDevice, type Part } from './harness.ts';

const FLUSH: readonly Part[] = [{ give: header(BLK_T_FLUSH) }, { room: 1 }];
const LIVE = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;

/** Of the format that is under test. */
let ring: RingKind = 'split';

function make(options: GuestOptions = {}): Guest {
  return new Guest({ ring, ...options });
}

/** A ring with one good request, offered and not notified. */
function withRequest(guest: Guest): Guest {
  guest.recycle();
  guest.offer(FLUSH);
  return guest;
}

describe.each(RINGS)('virtio-mmio registers, with a %s ring', (kind) => {
  beforeEach(() => {
    ring = kind;
  });

  it('checklist 25 and 26, virtio 4.2.2.1: MagicValue, Version; 5.2.1: DeviceID 2', () => {
    const guest = make();
    expect(guest.read(REG_MAGIC_VALUE)).toBe(0x74726976);
    expect(guest.read(REG_VERSION)).toBe(2);
    expect(guest.read(REG_DEVICE_ID)).toBe(2);
    expect(guest.read(REG_VENDOR_ID)).toBe(0x43525750);
  });

  it('checklist 27, virtio 4.2.2.1: an interrupt bit stays until it is acknowledged, and only then goes', () => {
    const guest = make().up();
    guest.send(FLUSH);
    guest.device.backendChanged();
    const both = INTERRUPT_USED | INTERRUPT_CONFIG;
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(both);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(both);
    guest.write(REG_INTERRUPT_ACK, INTERRUPT_USED);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(INTERRUPT_CONFIG);
    expect(guest.transport.interruptAsserted).toBe(true);
    guest.write(REG_INTERRUPT_ACK, 0xffff_ffff);
    expect(guest.transport.interruptAsserted).toBe(false);
  });

  it('checklist 28, virtio 4.2.2.1: reserved interrupt bits read zero', () => {
    const guest = make().up();
    guest.send(FLUSH);
    guest.write(REG_INTERRUPT_ACK, 0xffff_fffc);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(INTERRUPT_USED);
  });

  it('checklist 29, virtio 4.2.2.1: reset clears InterruptStatus and every QueueReady', () => {
    const guest = make().up();
    guest.send(FLUSH);
    guest.write(REG_STATUS, 0);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(0);
    expect(guest.transport.interruptAsserted).toBe(false);
    expect(guest.read(REG_QUEUE_READY)).toBe(0);
    expect(guest.status).toBe(0);
  });

  it('checklist 30, virtio 4.2.2.1: ConfigGeneration changes with the configuration, and only then', () => {
    const backend = new LoggingDevice({ sectorCount: 64 });
    const guest = make({ backend }).up();
    const before = guest.read(REG_CONFIG_GENERATION);
    guest.send(FLUSH);
    expect(guest.read(REG_CONFIG_GENERATION)).toBe(before);
    backend.sectorCount = 48;
    guest.device.backendChanged();
    expect(guest.read(REG_CONFIG_GENERATION)).not.toBe(before);
    expect(guest.read(REG_CONFIG + CONFIG.capacity)).toBe(48);
  });

  it('checklist 31, virtio 4.2.2.1: virtqueue contents are not accessed while QueueReady is 0', () => {
    const guest = make();
    guest.negotiate();
    guest.driverOk();
    withRequest(guest);
    guest.notify();
    expect(guest.used.length).toBe(0);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(0);
  });

  it('virtio 4.2.2.1: without RING_RESET negotiated, QueueReset reads 0 and ignores writes', () => {
    const guest = make().up();
    expect(hasFeature(guest.offered, F_RING_RESET)).toBe(true);
    guest.write(REG_QUEUE_RESET, 1);
    expect(guest.read(REG_QUEUE_RESET)).toBe(0);
    expect(guest.read(REG_QUEUE_READY)).toBe(1);
    expect(guest.send(FLUSH).status).toBe(BLK_S_OK);
  });

  it('virtio 4.2.2: there is no shared memory, so its length and base read -1', () => {
    const guest = make();
    for (const id of [0, 1, 0xffff_ffff]) {
      guest.write(REG_SHM_SEL, id);
      for (const register of [REG_SHM_LEN_LOW, REG_SHM_LEN_HIGH, REG_SHM_BASE_LOW, REG_SHM_BASE_HIGH]) {
        expect(guest.read(register)).toBe(0xffff_ffff);
      }
    }
  });

  it('virtio 4.2.2: a queue that does not exist has QueueNumMax 0 and takes nothing', () => {
    const guest = make();
    guest.negotiate();
    expect(guest.read(REG_QUEUE_NUM_MAX)).toBe(128);
    for (const queue of [1, 2, 0xffff, 0xffff_ffff]) {
      guest.write(REG_QUEUE_SEL, queue);
      expect(guest.read(REG_QUEUE_NUM_MAX)).toBe(0);
      guest.write(REG_QUEUE_READY, 1);
      expect(guest.read(REG_QUEUE_READY)).toBe(0);
    }
    expect(guest.needsReset).toBe(false);
  });

  it('accesses of the wrong width or offset read 0 and change nothing (virtio 4.2.2.2)', () => {
    const guest = make().up();
    for (const width of [0, 1, 2, 3, 5, 8, -4]) {
      for (let offset = 0; offset < REG_CONFIG; offset++) {
        expect(guest.transport.read(offset, width)).toBe(0);
        guest.transport.write(offset, width, 0);
      }
    }
    for (let offset = 0; offset < REG_CONFIG; offset++) {
      if (offset % 4 === 0) continue;
      expect(guest.read(offset)).toBe(0);
      guest.write(offset, 0);
    }
    for (const offset of [-4, -1, 0.5, Number.NaN, 2 ** 32, 2 ** 53]) {
      expect(guest.read(offset)).toBe(0);
      guest.write(offset, 0);
    }
    expect(guest.status).toBe(LIVE);
    expect(guest.send(FLUSH).status).toBe(BLK_S_OK);
  });

  it('the configuration space is read in 8, 16 and 32 bits, aligned, and ends where it ends', () => {
    const guest = make().up();
    const { transport } = guest;
    const bytes = Array.from({ length: CONFIG_BYTES }, (_, i) => transport.read(REG_CONFIG + i, 1));
    const view = new DataView(Uint8Array.from(bytes).buffer);
    for (let i = 0; i + 4 <= CONFIG_BYTES; i++) {
      expect(transport.read(REG_CONFIG + i, 2)).toBe(i % 2 === 0 ? view.getUint16(i, true) : 0);
      expect(transport.read(REG_CONFIG + i, 4)).toBe(i % 4 === 0 ? view.getUint32(i, true) : 0);
    }
    for (const width of [0, 3, 5, 8]) expect(transport.read(REG_CONFIG, width)).toBe(0);
    for (const width of [1, 2, 4]) expect(transport.read(REG_CONFIG + CONFIG_BYTES, width)).toBe(0);
    expect(transport.read(REG_CONFIG + 2 ** 32, 4)).toBe(0);
  });

  it('virtio 4.2.2: write-only registers read 0', () => {
    const guest = make().up();
    const writeOnly = [0x14, 0x20, 0x24, 0x30, 0x38, 0x50, 0x64, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xac];
    for (const register of writeOnly) expect(guest.read(register)).toBe(0);
  });
});

describe.each(RINGS)('device status and negotiation, with a %s ring', (kind) => {
  beforeEach(() => {
    ring = kind;
  });

  it('checklist 66, virtio 2.1.2: nothing is consumed, nothing notified, before DRIVER_OK', () => {
    const guest = make();
    const steps = [0, STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_FEATURES_OK];
    for (const step of steps) {
      if (step === STATUS_FEATURES_OK) guest.writeFeatures(guest.wanted());
      guest.write(REG_STATUS, guest.status | step);
      guest.setUpQueue();
      guest.driver.clear();
      withRequest(guest).notify();
      expect(guest.used.length).toBe(0);
      expect(guest.read(REG_INTERRUPT_STATUS)).toBe(0);
    }
    guest.driverOk();
    guest.notify();
    expect(guest.used.length).toBe(1);
  });

  it('checklist 67, virtio 2.1.2: a fault sets DEVICE_NEEDS_RESET and sends a configuration interrupt', () => {
    const guest = make().up();
    guest.driver.spoil();
    guest.notify();
    expect(guest.status).toBe(LIVE | STATUS_NEEDS_RESET);
    expect(guest.takeInterrupt()).toBe(INTERRUPT_CONFIG);
    expect(guest.transport.needsResetWhy).toMatch(/descriptor/);
  });

  it('checklist 67, virtio 2.1.2: before DRIVER_OK it sets the bit and sends nothing', () => {
    const guest = make();
    guest.negotiate();
    guest.setUpQueue({ ...guest.queue, size: 0 });
    expect(guest.needsReset).toBe(true);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(0);
    guest.driverOk();
    expect(guest.status & STATUS_DRIVER_OK).toBe(0);
  });

  it.each([
    ['a bit that is not offered', featureWords([F_VERSION_1, 0])],
    ['a withheld IN_ORDER', featureWords([F_VERSION_1, F_IN_ORDER])],
    ['a withheld INDIRECT_DESC', featureWords([F_VERSION_1, F_INDIRECT_DESC])],
    ['a withheld EVENT_IDX', featureWords([F_VERSION_1, F_EVENT_IDX])],
    ['a bit of the third word', featureWords([F_VERSION_1, 64])],
    ['a bit of the fourth word', featureWords([F_VERSION_1, 127])],
    ['no VERSION_1', featureWords([BLK_F_FLUSH])],
    ['nothing', featureWords()],
  ])('checklist 68, virtio 2.2.2: FEATURES_OK is refused for %s', (_name, features) => {
    const guest = make({ device: { withhold: [F_IN_ORDER, F_INDIRECT_DESC, F_EVENT_IDX] } });
    guest.write(REG_STATUS, STATUS_ACKNOWLEDGE);
    guest.write(REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    guest.writeFeatures(features);
    guest.write(REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    expect(guest.status).toBe(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    // And it is no way round to set the next bit with it.
    guest.write(REG_STATUS, LIVE);
    expect(guest.status).toBe(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    guest.up();
    expect(guest.status).toBe(LIVE);
  });

  it('checklist 68, virtio 2.2.2: FEATURES_OK is refused for a bit in a word that does not exist', () => {
    const guest = make();
    guest.write(REG_STATUS, STATUS_ACKNOWLEDGE);
    guest.write(REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    guest.writeFeatures(featureWords([F_VERSION_1]));
    guest.write(REG_DRIVER_FEATURES_SEL, 4);
    guest.write(REG_DRIVER_FEATURES, 1);
    guest.write(REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    expect(guest.status & STATUS_FEATURES_OK).toBe(0);
  });

  it('checklist 69, virtio 5.2.5.2: CONFIG_WCE is never offered without FLUSH', () => {
    const withheld = make({ device: { withhold: [BLK_F_FLUSH] } });
    const cannot = make({ backend: new LoggingDevice({ features: { flush: false, writeCache: true } }) });
    for (const guest of [withheld, cannot]) {
      expect(hasFeature(guest.offered, BLK_F_FLUSH)).toBe(false);
      expect(hasFeature(guest.offered, BLK_F_CONFIG_WCE)).toBe(false);
    }
    expect(hasFeature(make().offered, BLK_F_CONFIG_WCE)).toBe(true);
  });

  it('checklist 70, virtio 2.2.2: the same features are accepted again after a reset', () => {
    const guest = make();
    for (let i = 0; i < 3; i++) {
      guest.up([BLK_F_FLUSH]);
      expect(guest.status).toBe(LIVE);
      guest.driver.spoil();
      guest.notify();
      expect(guest.needsReset).toBe(true);
    }
  });

  it('checklist 71, virtio 2.4.1: after a reset, silence until the driver initialises anew', () => {
    const guest = make().up();
    guest.write(REG_STATUS, 0);
    expect(guest.status).toBe(0);
    withRequest(guest);
    const before = Buffer.from(guest.bytes);
    guest.notify();
    guest.device.backendChanged();
    expect(before.equals(guest.bytes)).toBe(true);
    expect(guest.read(REG_INTERRUPT_STATUS)).toBe(0);
    expect(guest.up().send(FLUSH).status).toBe(BLK_S_OK);
  });

  it('checklist 72, virtio 2.5.2: the configuration space is readable before FEATURES_OK', () => {
    const guest = make();
    expect(guest.read(REG_CONFIG + CONFIG.capacity)).toBe(64);
    expect(guest.read(REG_CONFIG + CONFIG.blkSize)).toBe(512);
    expect(guest.read(REG_CONFIG + CONFIG.maxDiscardSectors)).toBeGreaterThan(0);
  });

  it('checklist 73, virtio 2.6.1: a queue stopped by its driver starts from zero with its new ring after a reset', () => {
    const guest = make().up();
    guest.send(FLUSH);
    guest.write(REG_QUEUE_READY, 0);
    withRequest(guest).notify();
    expect(guest.used.length).toBe(1);
    // Without RING_RESET only a device reset enables it again.
    guest.write(REG_QUEUE_READY, 1);
    expect(guest.read(REG_QUEUE_READY)).toBe(0);
    expect(guest.up().send(FLUSH).status).toBe(BLK_S_OK);
    expect(guest.used.length).toBe(1);
  });

  it('checklist 74, virtio 6.2: VERSION_1 is offered', () => {
    expect(hasFeature(make().offered, F_VERSION_1)).toBe(true);
  });

  it('checklist 75, virtio 6.2: IN_ORDER is offered but by a device that completes in another order', () => {
    const offers = (device: BlkDeviceOptions) => hasFeature(make({ device }).offered, F_IN_ORDER);
    expect(offers({})).toBe(true);
    expect(offers({ choices: { choose: () => 0 } })).toBe(false);
  });

  it.each([
    ['DRIVER before ACKNOWLEDGE', [STATUS_DRIVER], 0],
    ['FEATURES_OK before DRIVER', [STATUS_ACKNOWLEDGE, STATUS_ACKNOWLEDGE | STATUS_FEATURES_OK], STATUS_ACKNOWLEDGE],
    ['DRIVER_OK before FEATURES_OK', [3, 7], 3],
    ['a bit taken back', [3, 1], 3],
    ['NEEDS_RESET, which is the device’s', [3, 3 | STATUS_NEEDS_RESET], 3],
    ['reserved bits', [1, 3, 3 | 16 | 32 | 0x100], 3],
    ['anything after FAILED', [1, 1 | STATUS_FAILED, 3 | STATUS_FAILED], 1 | STATUS_FAILED],
  ])('virtio 3.1.1: the order of the steps is enforced: %s', (_name, writes, expected) => {
    const guest = make();
    for (const value of writes) guest.write(REG_STATUS, value);
    expect(guest.status).toBe(expected);
  });

  it('virtio 3.1.1: features are settled with FEATURES_OK, and not taken before DRIVER', () => {
    const guest = make();
    guest.write(REG_STATUS, 1);
    guest.writeFeatures(guest.offered);
    guest.write(REG_STATUS, 3);
    guest.write(REG_STATUS, 3 | STATUS_FEATURES_OK);
    expect(guest.status).toBe(3);
    guest.negotiate([]);
    guest.writeFeatures(guest.offered);
    guest.setUpQueue();
    guest.driverOk();
    // FLUSH was written too late to count.
    expect(guest.send(FLUSH).status).not.toBe(BLK_S_OK);
  });

  it('a queue configured after DRIVER_OK, or while it is ready, stays as it was', () => {
    const guest = make();
    guest.negotiate();
    guest.setUpQueue();
    guest.write(REG_QUEUE_NUM, 3);
    guest.write(REG_QUEUE_DESC_LOW, 1);
    guest.driverOk();
    guest.write(REG_QUEUE_NUM, 3);
    guest.write(REG_QUEUE_DESC_LOW, 1);
    guest.write(REG_QUEUE_READY, 1);
    expect(guest.needsReset).toBe(false);
    expect(guest.send(FLUSH).status).toBe(BLK_S_OK);
  });

  it('a driver that gave up with FAILED is not served', () => {
    const guest = make().up();
    guest.write(REG_STATUS, guest.status | STATUS_FAILED);
    withRequest(guest).notify();
    expect(guest.used.length).toBe(0);
  });

  it('feature words beyond the second read 0', () => {
    const guest = make();
    for (const word of [2, 3, 4, 0xffff_ffff]) {
      guest.write(REG_DEVICE_FEATURES_SEL, word);
      expect(guest.read(REG_DEVICE_FEATURES)).toBe(0);
    }
  });

  it('calls onInterrupt when the line goes up, and serves what is submitted from there', () => {
    let calls = 0;
    const guest: Guest = make({
      mmio: {
        onInterrupt: () => {
          guest.takeInterrupt();
          if (++calls < 5) withRequest(guest).write(REG_QUEUE_NOTIFY, 0);
        },
      },
    }).up();
    withRequest(guest).notify();
    expect(calls).toBe(5);
    expect(guest.used.length).toBe(5);
  });
});
