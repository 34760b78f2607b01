/** The block device's numbers and layouts (virtio 5.2). */

/** Subsystem device id (5.2.1). */
export const BLK_DEVICE_ID = 2;

/** The unit of the protocol, whatever the disk's own sector (5.2.5, 5.2.6). */
export const UNIT_BYTES = 512;

/** Feature bits (5.2.3). */
export const BLK_F_SIZE_MAX = 1;
export const BLK_F_SEG_MAX = 2;
export const BLK_F_RO = 5;
export const BLK_F_BLK_SIZE = 6;
export const BLK_F_FLUSH = 9;
export const BLK_F_TOPOLOGY = 10;
export const BLK_F_CONFIG_WCE = 11;
export const BLK_F_MQ = 12;
export const BLK_F_DISCARD = 13;
export const BLK_F_WRITE_ZEROES = 14;
export const BLK_F_LIFETIME = 15;
export const BLK_F_SECURE_ERASE = 16;

/** Types of a request (5.2.6). */
export const BLK_T_IN = 0;
export const BLK_T_OUT = 1;
export const BLK_T_FLUSH = 4;
export const BLK_T_GET_ID = 8;
export const BLK_T_GET_LIFETIME = 10;
export const BLK_T_DISCARD = 11;
export const BLK_T_WRITE_ZEROES = 13;
export const BLK_T_SECURE_ERASE = 14;

/** The status byte, last in the request (5.2.6). */
export const BLK_S_OK = 0;
export const BLK_S_IOERR = 1;
export const BLK_S_UNSUPP = 2;

/** A request begins with le32 type, le32 reserved, le64 sector (5.2.6). */
export const HEADER_BYTES = 16;
export const HEADER_TYPE = 0;
export const HEADER_RESERVED = 4;
export const HEADER_SECTOR = 8;

/** The string of GET_ID: ASCII, padded with NUL, not terminated where it fills the field (5.2.6). */
export const ID_BYTES = 20;

/** struct virtio_blk_lifetime: le16 pre_eol_info, le16 device_lifetime_est_typ_a, le16 the same for b (5.2.6). */
export const LIFETIME_BYTES = 6;
/** The largest values that are not reserved (5.2.6). */
export const PRE_EOL_MAX = 3;
export const WEAR_MAX = 11;

/** struct virtio_blk_discard_write_zeroes: le64 sector, le32 num_sectors, le32 flags (5.2.6). */
export const RANGE_BYTES = 16;
export const RANGE_SECTOR = 0;
export const RANGE_COUNT = 8;
export const RANGE_FLAGS = 12;
export const RANGE_F_UNMAP = 1;

type ConfigField =
  | 'capacity'
  | 'sizeMax'
  | 'segMax'
  | 'geometry'
  | 'blkSize'
  | 'physicalBlockExp'
  | 'alignmentOffset'
  | 'minIoSize'
  | 'optIoSize'
  | 'writeback'
  | 'unused0'
  | 'numQueues'
  | 'maxDiscardSectors'
  | 'maxDiscardSeg'
  | 'discardSectorAlignment'
  | 'maxWriteZeroesSectors'
  | 'maxWriteZeroesSeg'
  | 'writeZeroesMayUnmap'
  | 'unused1'
  | 'maxSecureEraseSectors'
  | 'maxSecureEraseSeg'
  | 'secureEraseSectorAlignment';

/** struct virtio_blk_config, field by field with its size in bytes, up to what our features need (5.2.4). */
const CONFIG_FIELDS: readonly (readonly [ConfigField, number])[] = [
  ['capacity', 8],
  ['sizeMax', 4],
  ['segMax', 4],
  ['geometry', 4],
  ['blkSize', 4],
  ['physicalBlockExp', 1],
  ['alignmentOffset', 1],
  ['minIoSize', 2],
  ['optIoSize', 4],
  ['writeback', 1],
  ['unused0', 1],
  ['numQueues', 2],
  ['maxDiscardSectors', 4],
  ['maxDiscardSeg', 4],
  ['discardSectorAlignment', 4],
  ['maxWriteZeroesSectors', 4],
  ['maxWriteZeroesSeg', 4],
  ['writeZeroesMayUnmap', 1],
  ['unused1', 3],
  ['maxSecureEraseSectors', 4],
  ['maxSecureEraseSeg', 4],
  ['secureEraseSectorAlignment', 4],
];

function offsetsOf(fields: typeof CONFIG_FIELDS): Record<ConfigField, number> {
  const offsets: Partial<Record<ConfigField, number>> = {};
  let offset = 0;
  for (const [name, sizeBytes] of fields) {
    offsets[name] = offset;
    offset += sizeBytes;
  }
  return offsets as Record<ConfigField, number>;
}

/** Offset of each field in the configuration space. */
export const CONFIG: Readonly<Record<ConfigField, number>> = offsetsOf(CONFIG_FIELDS);

/** Bytes of the configuration space. */
export const CONFIG_BYTES: number = CONFIG_FIELDS.reduce((sum, [, sizeBytes]) => sum + sizeBytes, 0);
