import type { OperationKind } from '../../faults/index.ts';
import { exportBytes, type NbdExport } from './export.ts';
import type { Agreement } from './handshake.ts';
import { COMMAND, ERROR, FLAG, MAX_PAYLOAD_BYTES } from './protocol.ts';

/**
 * A request as it came, and how far it is. One object serves all requests of a connection that are answered at once;
 * those that wait have one each.
 */
export class Request {
  flags = 0;
  type = 0;
  /** The client's, in two halves: sent back as it is. */
  cookieHigh = 0;
  cookieLow = 0;
  offset = 0;
  length = 0;
  /** Bytes of it that are done. */
  done = 0;
  /** An {@link ERROR}; what it is to be answered with. */
  error = 0;
  message = '';
  /** Number of the last operation on the disk that belongs to it; 0 for none. */
  operation = 0;
  /** Whether it has waited as long as the disk's latency says, or hung. */
  waited = false;

  /** Reads a header, whose magic number has been checked. */
  parse(header: DataView, at: number): void {
    this.flags = header.getUint16(at + 4);
    this.type = header.getUint16(at + 6);
    this.cookieHigh = header.getUint32(at + 8);
    this.cookieLow = header.getUint32(at + 12);
    const high = header.getUint32(at + 16);
    // Past 2^53 no number is exact; and no disk of ours ends there.
    this.offset = high > 0x1f_ffff ? Number.MAX_SAFE_INTEGER : high * 2 ** 32 + header.getUint32(at + 20);
    this.length = header.getUint32(at + 24);
    this.done = 0;
    this.error = ERROR.none;
    this.message = '';
    this.operation = 0;
    this.waited = false;
  }

  copy(): Request {
    return Object.assign(new Request(), this);
  }
}

const READ_FLAGS = FLAG.fua | FLAG.df;
const ZERO_FLAGS = FLAG.fua | FLAG.noHole | FLAG.fastZero;
/** `NBD_CMD_FLAG_FUA` is valid with every command; the others only where they mean something. Undefined: no command. */
const VALID_FLAGS: readonly (number | undefined)[] = Array.from({ length: 8 }, (_, type) => {
  if (type === COMMAND.read) return READ_FLAGS;
  if (type === COMMAND.writeZeroes) return ZERO_FLAGS;
  return type === COMMAND.blockStatus ? FLAG.fua | FLAG.reqOne : FLAG.fua;
});

/**
 * Checks a request against the export and what was agreed on.
 * @returns the {@link ERROR} to answer with, or `ERROR.none`; the request gets a message
 */
export function validate(request: Request, exported: NbdExport, agreement: Agreement): number {
  const { type, flags, length } = request;
  const valid = VALID_FLAGS[type];
  if (valid === undefined) return refuse(request, ERROR.invalid, 'this server has no such command');
  if ((flags & ~valid) !== 0) return refuse(request, ERROR.invalid, 'a flag that this command does not have');
  if ((flags & FLAG.df) !== 0 && !agreement.structured)
    return refuse(request, ERROR.invalid, 'NBD_CMD_FLAG_DF goes with structured replies');
  if (type === COMMAND.flush) {
    if (request.offset === 0 && length === 0) return ERROR.none;
    return refuse(request, ERROR.invalid, 'a flush has neither offset nor length');
  }
  const changes = type === COMMAND.write || type === COMMAND.trim || type === COMMAND.writeZeroes;
  if (changes && exported.disk.readOnly) return refuse(request, ERROR.perm, 'the export is read-only');
  if (type === COMMAND.blockStatus && !agreement.allocation)
    return refuse(request, ERROR.invalid, 'no metadata context was selected');
  return validateRange(request, exported, agreement);
}

function validateRange(request: Request, exported: NbdExport, agreement: Agreement): number {
  const { type, offset, length, flags } = request;
  if (length === 0) return refuse(request, ERROR.invalid, 'expected a length of at least 1');
  const sizeBytes = exportBytes(exported);
  if (offset > sizeBytes || length > sizeBytes - offset) {
    const grows = type === COMMAND.write || type === COMMAND.writeZeroes;
    return refuse(request, grows ? ERROR.noSpace : ERROR.invalid, `beyond the end of the export, ${sizeBytes}`);
  }
  if (length > MAX_PAYLOAD_BYTES && (type === COMMAND.read || type === COMMAND.write)) {
    const code = type === COMMAND.read && agreement.structured ? ERROR.overflow : ERROR.invalid;
    return refuse(request, code, `a payload is at most ${MAX_PAYLOAD_BYTES} bytes`);
  }
  const { sectorBytes, zeroesFast } = exported.disk;
  if (agreement.aligned && (offset % sectorBytes !== 0 || length % sectorBytes !== 0))
    return refuse(request, ERROR.invalid, `expected multiples of the block size, ${sectorBytes}`);
  if ((flags & FLAG.fastZero) !== 0 && type === COMMAND.writeZeroes) {
    // Zeros that must occupy room are written, here as anywhere.
    if (!zeroesFast || (flags & FLAG.noHole) !== 0)
      return refuse(request, ERROR.notSupported, 'to write zeros would be as fast');
  }
  return ERROR.none;
}

function refuse(request: Request, error: number, message: string): number {
  request.error = error;
  request.message = message;
  return error;
}

/** What a command is to the disk; undefined where it is nothing to wait for. */
export function operationKind(type: number): OperationKind | undefined {
  switch (type) {
    case COMMAND.read:
      return 'read';
    case COMMAND.write:
      return 'write';
    case COMMAND.flush:
      return 'flush';
    case COMMAND.trim:
      return 'discard';
    case COMMAND.writeZeroes:
      return 'writeZeroes';
    default:
      return undefined;
  }
}
