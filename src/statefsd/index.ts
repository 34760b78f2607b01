export { AbiFilter, deriveFilter, FILTER_VERSION, MAX_FILTER_PATH_LENGTH, MAX_FILTER_RULES } from './abi-filter.ts';
export { Audit, type AuditOptions, type AuditSink, type AuditStats } from './audit.ts';
export { AuditFile, type AuditFileOptions } from './audit-file.ts';
export {
  AuditLogd,
  type AuditLogdOptions,
  type LogdConnection,
  type LogdConnector,
  type LogdEntry,
} from './audit-logd.ts';
export {
  AUDIT_FIELDS,
  type AuditDecision,
  type AuditEntry,
  type AuditEvent,
  type AuditRecord,
  auditLine,
} from './audit-record.ts';
export { auditStore } from './audit-store.ts';
export { Authority, type Decision } from './authority.ts';
export {
  activate,
  BOOT_RECORD_BYTES,
  type BootSlot,
  type BootState,
  beginUpdate,
  bootAttempt,
  confirm,
  decodeBootState,
  encodeBootState,
  initialState,
  isBootable,
  nextSlot,
  reject,
  type SlotName,
} from './boot-state.ts';
export type { Channel, ChannelHandlers, Connector } from './channel.ts';
export {
  type ClientEvent,
  type ClientOptions,
  type PutAtomicOptions,
  type PutMetadata,
  type PutOptions,
  type PutReceipt,
  StateFsClient,
  type StoredValue,
} from './client.ts';
export { StateFsClientError } from './client-error.ts';
export {
  decodeRequest,
  decodeResponse,
  encodeError,
  encodeRequest,
  encodeResponse,
  type Fault,
  isFault,
  type Request,
  type RequestFields,
  type Response,
  type ResponseFields,
} from './codec.ts';
export type { ServiceEvent } from './executor.ts';
export { FrameReader, type RawFrame } from './frame-reader.ts';
export { inProcess } from './in-process.ts';
export {
  DEVICE_KEY_BYTES,
  DEVICE_KEY_PATH,
  type DeviceKey,
  Keystored,
  type KeystoredOptions,
  readDeviceKey,
  type Signature,
  verifySignature,
} from './keystored.ts';
export type { Limits } from './limits.ts';
export type { BackOff } from './link.ts';
export { MAX_CLIENTS_PER_SUBJECT, type OnceNonce, RESERVED_TREE } from './once.ts';
export {
  ERROR_FIELDS,
  HEADER_FIELDS,
  OPERATION_NAMES,
  OPERATIONS,
  type Operation,
  type OperationName,
  type OperationScope,
  PROTOCOL_VERSION,
  STATUSES,
  type Status,
  type StatusName,
  type WireField,
} from './operations.ts';
export type { Effect } from './path-rule.ts';
export {
  baselinePolicy,
  checkPolicy,
  isSubject,
  type Policy,
  type PolicyBudget,
  PolicyError,
  type PolicyPlace,
  type PolicyRule,
} from './policy.ts';
export {
  loadPolicy,
  MAX_POLICY_FILE_BYTES,
  POLICY_FILE_VERSION,
  type PolicyReload,
  parsePolicy,
  reloadPolicy,
} from './policy-file.ts';
export { type Admission, type ServiceOptions, StateFsService } from './service.ts';
export { LARGEST_FRAME_BYTES, type Peer, type Session } from './session.ts';
export type { Answer, StatePort } from './state-port.ts';
export { unixSocket } from './unix-client.ts';
export { UnixServer } from './unix-server.ts';
export { BOOT_CONTROL_PATH, Updated } from './updated.ts';
