import type { BlockDevice } from '../blockdev/index.ts';
import { equalBytes } from '../core/index.ts';
import { decode, type Envelope, sha256 } from '../envelope/index.ts';
import { fail, StateFsError, wrapDeviceError } from './errors.ts';
import { type FrameCodec, FrameHeader } from './frame.ts';
import type { StoreGeometry } from './geometry.ts';
import type { IndexEntry } from './index-entry.ts';
import { FRAME_TEMP } from './layout.ts';
import { borrowMemory, giveBackMemory, type Memory, NO_MEMORY } from './memory.ts';
import type { PayloadStore } from './payload.ts';
import type { Damage } from './replay.ts';
import type { StoreRules } from './rules.ts';

/** Reads live records from the device, and verifies them every time. */
export class RecordReader {
  /** Holds {@link frame}; only between a read and its {@link done}. */
  #memory: Memory = NO_MEMORY;
  readonly #frameBytes: number;
  readonly #device: BlockDevice;
  readonly #codec: FrameCodec;
  readonly #sectorBytes: number;
  readonly #payloads: PayloadStore;
  readonly #rules: StoreRules;
  readonly #onDamage: (damage: Damage) => void;
  readonly #header = new FrameHeader();

  constructor(
    device: BlockDevice,
    codec: FrameCodec,
    geometry: StoreGeometry,
    payloads: PayloadStore,
    rules: StoreRules,
    onDamage: (damage: Damage) => void,
  ) {
    this.#device = device;
    this.#codec = codec;
    this.#sectorBytes = geometry.sectorBytes;
    this.#payloads = payloads;
    this.#rules = rules;
    this.#onDamage = onDamage;
    this.#frameBytes = geometry.frameSectors * geometry.sectorBytes;
  }

  /** The temp frame read last, its marks replaced by the user's bytes. Valid until the next call. */
  get frame(): Uint8Array {
    return this.#memory.bytes;
  }

  /** Nobody needs {@link frame} any more. */
  done(): void {
    giveBackMemory(this.#memory);
    this.#memory = NO_MEMORY;
  }

  /**
   * The payload of `entry`, a new array, held to its SHA-256.
   * @throws StateFsError EINTEGRITY, EIO
   */
  read(entry: IndexEntry): Uint8Array {
    const envelope = this.readEnvelope(entry);
    const payload = new Uint8Array(entry.payloadBytes);
    if (entry.extentFrames > 0) this.#reading(entry, () => this.#payloads.read(entry, payload));
    else payload.set(this.inlinePayload(entry));
    this.done();
    if (this.#rules.checksums && !equalBytes(sha256(payload), envelope.digest)) this.#failDigest(entry);
    return payload;
  }

  /**
   * Verifies all of `entry`, keeping nothing of it.
   * @returns its envelope
   * @throws as {@link read}
   */
  verify(entry: IndexEntry): Envelope {
    const envelope = this.readEnvelope(entry);
    if (this.#rules.checksums) {
      const digest =
        entry.extentFrames > 0
          ? this.#reading(entry, () => this.#payloads.digest(entry))
          : sha256(this.inlinePayload(entry));
      if (!equalBytes(digest, envelope.digest)) this.#failDigest(entry);
    }
    this.done();
    return envelope;
  }

  /** The envelope of `entry`, verified with the frame that it stands in. */
  envelope(entry: IndexEntry): Envelope {
    const envelope = this.readEnvelope(entry);
    this.done();
    return envelope;
  }

  /** The same, and the temp frame stays in {@link frame} until {@link done}. */
  readEnvelope(entry: IndexEntry): Envelope {
    if (this.#memory === NO_MEMORY) this.#memory = borrowMemory(this.#frameBytes);
    const { bytes, view } = this.#memory;
    const sectors = this.#codec.sectorsFor(entry.tempBodyBytes);
    const frame = bytes.subarray(0, sectors * this.#sectorBytes);
    this.#reading(entry, () => this.#device.read(entry.tempSector, frame));
    const header = this.#header;
    const isRight =
      this.#codec.parse(bytes, view, 0, entry.tempSector, header) &&
      header.type === FRAME_TEMP &&
      header.sequence === entry.sequence &&
      header.epoch === entry.epoch &&
      header.bodyBytes === entry.tempBodyBytes &&
      this.#codec.verify(bytes, view, 0, header);
    if (!isRight) this.#failDamaged(entry, `its record at sector ${entry.tempSector} is damaged`);
    this.#codec.restore(view, 0, header);
    return this.#decodeEnvelope(entry);
  }

  /** The inline payload in {@link frame}. */
  inlinePayload(entry: IndexEntry): Uint8Array {
    const start = entry.envelopeOffset + entry.envelopeBytes;
    return this.frame.subarray(start, start + entry.payloadBytes);
  }

  #decodeEnvelope(entry: IndexEntry): Envelope {
    const bytes = this.frame.subarray(entry.envelopeOffset, entry.envelopeOffset + entry.envelopeBytes);
    let envelope: Envelope;
    try {
      envelope = decode(bytes);
    } catch (error) {
      return this.#failDamaged(entry, 'its envelope is damaged', error);
    }
    const isRight =
      envelope.payloadBytes === entry.payloadBytes &&
      (entry.digest === undefined || !this.#rules.checksums || equalBytes(envelope.digest, entry.digest));
    return isRight ? envelope : this.#failDamaged(entry, 'its envelope contradicts its commit');
  }

  #reading<T>(entry: IndexEntry, run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (error instanceof StateFsError && error.code === 'EINTEGRITY') this.#failDamaged(entry, error.message, error);
      throw wrapDeviceError(error, entry.key);
    }
  }

  #failDigest(entry: IndexEntry): never {
    this.#failDamaged(entry, 'its payload does not match its SHA-256');
  }

  /** Tells of damage to `entry`. */
  report(entry: IndexEntry, what: string): void {
    this.#onDamage({ sector: entry.tempSector, keys: [entry.key], what, isCertain: true });
  }

  #failDamaged(entry: IndexEntry, what: string, cause?: unknown): never {
    this.report(entry, what);
    return fail('EINTEGRITY', `${entry.key}: ${what}: put it again, or restore it`, cause);
  }
}
