export { ControlClient } from './control/client.ts';
export { type Answer, type ControlContext, commands } from './control/commands.ts';
export { ControlServer } from './control/server.ts';
export type { ServedLatency } from './disk/latency.ts';
export type { Medium } from './disk/medium.ts';
export { assertResolution, type CutReport, type CutResolution } from './disk/outcome.ts';
export { saveImage } from './disk/save.ts';
export type { CutSchedule } from './disk/scheduled-cut.ts';
export {
  type OperationCounts,
  type OperationObserver,
  type PowerState,
  ServedDisk,
  type ServedDiskOptions,
} from './disk/served-disk.ts';
export type { ServedFault, ServedFaultKind } from './disk/served-faults.ts';
export { MIN_CACHE_BYTES, VolatileCache } from './disk/volatile-cache.ts';
export type { Address } from './listen.ts';
export { type Extent, NbdClient, type NbdClientOptions, NbdError } from './nbd/client.ts';
export {
  ClientHandshake,
  type ExportInfo,
  infoData,
  metaContextData,
  NbdOptionError,
  type OptionReply,
} from './nbd/client-handshake.ts';
export type { NbdPatience } from './nbd/connection.ts';
export {
  CHUNK,
  COMMAND,
  ERROR,
  FLAG,
  HANDSHAKE,
  INFO,
  MAX_PAYLOAD_BYTES,
  OPTION,
  REPLY,
  STATE,
  TRANSMISSION,
} from './nbd/protocol.ts';
export { NBD_PORT, NbdServer, type NbdServerOptions } from './nbd/server.ts';
export type { NbdStatistics } from './nbd/statistics.ts';
export type { Mark, TraceHeader, TraceLine } from './trace/events.ts';
export { externalCheck } from './trace/external-check.ts';
export { TraceFile } from './trace/reader.ts';
export { type TraceScenarioOptions, traceScenario } from './trace/scenario.ts';
export { TraceWriter } from './trace/writer.ts';
export { type VhostReply, VhostUserFrontEnd } from './vhost/front-end.ts';
export { fuzzVhostUser, type VhostFuzzOptions, type VhostFuzzReport } from './vhost/fuzz.ts';
export { BROKEN, type EndWatch, type Host, type Mapping, NOTHING_YET, type OpenFile } from './vhost/host.ts';
export { inflightRegionBytes } from './vhost/inflight.ts';
export { openHost } from './vhost/koffi-host.ts';
export { type MachineRegion, VhostUserMachine, type VhostUserMachineOptions } from './vhost/machine.ts';
export { MemoryHost } from './vhost/memory-host.ts';
export { F_PROTOCOL_FEATURES, PROTOCOL_FEATURES, REQUEST } from './vhost/protocol.ts';
export { parseHeader, parseRequest, type VhostRequest } from './vhost/request.ts';
export { VhostUserServer, type VhostUserServerOptions } from './vhost/server.ts';
export type { VhostStatistics } from './vhost/statistics.ts';
