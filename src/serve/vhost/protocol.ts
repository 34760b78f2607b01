/**
 * The vhost-user protocol as QEMU documents it (docs/interop/vhost-user.rst): numbers and layouts. A message is a header
 * of request, flags and payload size, 32 bits each, and the payload; all in the machine's byte order, which is
 * little-endian wherever this runs.
 */

export const HEADER_BYTES = 12;
/** Bits 0 and 1 of the flags. */
export const VERSION = 1;
export const FLAG_VERSION_MASK = 3;
export const FLAG_REPLY = 4;
export const FLAG_NEED_REPLY = 8;

/** Requests of a front end. */
export const REQUEST = {
  getFeatures: 1,
  setFeatures: 2,
  setOwner: 3,
  resetOwner: 4,
  setMemTable: 5,
  setLogBase: 6,
  setLogFd: 7,
  setVringNum: 8,
  setVringAddr: 9,
  setVringBase: 10,
  getVringBase: 11,
  setVringKick: 12,
  setVringCall: 13,
  setVringErr: 14,
  getProtocolFeatures: 15,
  setProtocolFeatures: 16,
  getQueueNum: 17,
  setVringEnable: 18,
  getConfig: 24,
  setConfig: 25,
  getInflightFd: 31,
  setInflightFd: 32,
  resetDevice: 34,
} as const;

/** The feature bit that says that there are protocol features: one that no virtio device has. */
export const F_PROTOCOL_FEATURES = 30;

/** Protocol features that we have. */
export const PROTOCOL_F_MQ = 0;
export const PROTOCOL_F_REPLY_ACK = 3;
export const PROTOCOL_F_CONFIG = 9;
export const PROTOCOL_F_INFLIGHT_SHMFD = 12;
export const PROTOCOL_F_RESET_DEVICE = 13;

/** The low word of what is offered; no bit of the high one is. */
export const PROTOCOL_FEATURES: number =
  (1 << PROTOCOL_F_MQ) |
  (1 << PROTOCOL_F_REPLY_ACK) |
  (1 << PROTOCOL_F_CONFIG) |
  (1 << PROTOCOL_F_INFLIGHT_SHMFD) |
  (1 << PROTOCOL_F_RESET_DEVICE);

/** Of a message that carries the file descriptor of a ring: the ring, and that there is none. */
export const VRING_INDEX_MASK = 0xff;
export const VRING_NO_FD = 0x100;

/** Regions in one table. */
export const REGIONS_MAX = 8;
export const REGION_BYTES = 32;
export const CONFIG_HEADER_BYTES = 12;
/** Most bytes of a device's configuration space. */
export const CONFIG_BYTES_MAX = 256;
/** The longest payload that a message of ours may have: a table of regions, or a configuration space. */
export const PAYLOAD_BYTES_MAX: number = Math.max(
  8 + REGIONS_MAX * REGION_BYTES,
  CONFIG_HEADER_BYTES + CONFIG_BYTES_MAX,
);
/** Most file descriptors that come with a message: one for each region. */
export const FDS_MAX: number = REGIONS_MAX;
