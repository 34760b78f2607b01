/**
 * Numbers of the NBD protocol, by their names in its specification (doc/proto.md of the nbd project). Everything on the
 * wire is big-endian.
 */

/** 64-bit magic numbers, in their two halves. */
export const NBDMAGIC: readonly [number, number] = [0x4e42_444d, 0x4147_4943];
export const IHAVEOPT: readonly [number, number] = [0x4948_4156, 0x454f_5054];
export const OPTION_REPLY_MAGIC: readonly [number, number] = [0x0003_e889, 0x0455_65a9];

export const REQUEST_MAGIC = 0x2560_9513;
export const SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const STRUCTURED_REPLY_MAGIC = 0x668e_33ef;

/** Bytes of a request's header. */
export const REQUEST_BYTES = 28;
/** Bytes of an option's header. */
export const OPTION_BYTES = 16;
/** Bytes of a simple reply without its data. */
export const SIMPLE_REPLY_BYTES = 16;
/** Bytes of the header of a structured reply's chunk. */
export const CHUNK_BYTES = 20;
/** "Conventions": no string is longer. */
export const MAX_STRING_BYTES = 4096;

/** "Handshake flags" and "Client flags": the same two bits. */
export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const;

/** "Transmission flags". */
export const TRANSMISSION = {
  hasFlags: 0x1,
  readOnly: 0x2,
  sendFlush: 0x4,
  sendFua: 0x8,
  sendTrim: 0x20,
  sendWriteZeroes: 0x40,
  sendDf: 0x80,
  canMultiConn: 0x100,
  sendCache: 0x400,
  sendFastZero: 0x800,
} as const;

/** "Option types". */
export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

/** "Option reply types"; errors have bit 31. */
export const REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: 0x8000_0001,
  errInvalid: 0x8000_0003,
  errUnknown: 0x8000_0006,
  errShutdown: 0x8000_0007,
  errTooBig: 0x8000_0009,
} as const;

/** Information types of `NBD_REP_INFO`. */
export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** "Request types". */
export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

/** "Command flags". */
export const FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const;

/** "Structured reply flags". */
export const CHUNK_DONE = 1;

/** "Structured reply types". */
export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

/** "Error values". */
export const ERROR = {
  none: 0,
  perm: 1,
  io: 5,
  invalid: 22,
  noSpace: 28,
  overflow: 75,
  notSupported: 95,
  shutdown: 108,
} as const;

/** Flags of the metadata context `base:allocation`. */
export const STATE = { hole: 1, zero: 2 } as const;

export const BASE_ALLOCATION = 'base:allocation';
/** The identifier that the server gives to `base:allocation`: any would do. */
export const ALLOCATION_ID = 1;

/**
 * "Size constraints": no payload up to this is to be taken for an attack, and a server without constraints supports at
 * least as much. It is what this one offers.
 */
export const MAX_PAYLOAD_BYTES: number = 2 ** 25;
