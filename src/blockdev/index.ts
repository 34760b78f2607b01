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
export { type FileCreateOptions, FileDevice, type FileOpenOptions } from './file.ts';
export { type FileIo, systemFileIo } from './file-io.ts';
export { MemoryDevice, type MemoryImageOptions } from './memory.ts';
export { PartitionView } from './partition.ts';
export { ReadOnlyView } from './read-only.ts';
export { type TraceEvent, type TraceKind, type TraceSink, TracingDevice } from './tracing.ts';
