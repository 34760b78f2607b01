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
