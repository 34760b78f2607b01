export {
  type BlockDevice,
  checkRange,
  checkTransfer,
  checkWritable,
  type DeviceFeatures,
  type Geometry,
  resolveGeometry,
  type WriteOptions,
  type WriteZeroesOptions,
} from './device.ts';
export { MemoryDevice } from './memory.ts';
