export type { VirtioBlkDriverOptions } from './blk-channel.ts';
export type { BlkLimits } from './blk-config.ts';
export { BlkDevice, type BlkDeviceOptions } from './blk-device.ts';
export { type Ticket, VirtioBlkDriver } from './blk-driver.ts';
export {
  BLK_DEVICE_ID,
  BLK_F_BLK_SIZE,
  BLK_F_CONFIG_WCE,
  BLK_F_DISCARD,
  BLK_F_FLUSH,
  BLK_F_LIFETIME,
  BLK_F_MQ,
  BLK_F_RO,
  BLK_F_SECURE_ERASE,
  BLK_F_SEG_MAX,
  BLK_F_SIZE_MAX,
  BLK_F_TOPOLOGY,
  BLK_F_WRITE_ZEROES,
  BLK_S_IOERR,
  BLK_S_OK,
  BLK_S_UNSUPP,
  BLK_T_DISCARD,
  BLK_T_FLUSH,
  BLK_T_GET_ID,
  BLK_T_GET_LIFETIME,
  BLK_T_IN,
  BLK_T_OUT,
  BLK_T_SECURE_ERASE,
  BLK_T_WRITE_ZEROES,
  CONFIG,
  CONFIG_BYTES,
} from './blk-layout.ts';
export type { BlkLifetime } from './blk-lifetime.ts';
export { DescriptorChain, type SegmentStream } from './chain.ts';
export { type DeviceQueue, type QueuePosition, type RingOptions, ringOptions, type VirtQueue } from './device-queue.ts';
export { type DriverMemory, driverMemoryBytes } from './driver-memory.ts';
export {
  F_EVENT_IDX,
  F_IN_ORDER,
  F_INDIRECT_DESC,
  F_NOTIFICATION_DATA,
  F_RING_PACKED,
  F_RING_RESET,
  F_VERSION_1,
  type FeatureWords,
  featureWords,
  hasFeature,
  setFeature,
} from './features.ts';
export { FlatMemory, type FlatMemoryOptions, type GuestMemory } from './memory.ts';
export { type MmioOptions, MmioTransport } from './mmio.ts';
export {
  INTERRUPT_CONFIG,
  INTERRUPT_USED,
  MAGIC,
  MMIO_VERSION,
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
  REG_QUEUE_DESC_HIGH,
  REG_QUEUE_DESC_LOW,
  REG_QUEUE_DEVICE_HIGH,
  REG_QUEUE_DEVICE_LOW,
  REG_QUEUE_DRIVER_HIGH,
  REG_QUEUE_DRIVER_LOW,
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
} from './mmio-layout.ts';
export type { DeviceModel, RegisterBus } from './model.ts';
export { layOutPackedQueue, PackedDriverRing } from './packed-driver-ring.ts';
export {
  EVENT_F_DESC,
  EVENT_F_DISABLE,
  EVENT_F_ENABLE,
  PACKED_F_AVAIL,
  PACKED_F_USED,
  passedPackedEvent,
} from './packed-layout.ts';
export { PackedQueue } from './packed-queue.ts';
export { QueueFormats } from './queue-format.ts';
export { type MemoryRegion, RegionMemory } from './region-memory.ts';
export { type DescriptorFields, SplitDriverRing } from './split-driver-ring.ts';
export {
  DESC_BYTES,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  layOutQueue,
  type QueueAddresses,
  queueEnd,
} from './split-layout.ts';
export { SplitQueue } from './split-queue.ts';
export { type VirtioStack, type VirtioStackOptions, virtioStack, virtioThrough } from './stack.ts';
export {
  STATUS_ACKNOWLEDGE,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FAILED,
  STATUS_FEATURES_OK,
  STATUS_NEEDS_RESET,
} from './status.ts';
