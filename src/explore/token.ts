import { crc32 } from 'node:zlib';
import { CodedError } from '../core/index.ts';
import { formatMedia, type MediaOptions, parseMedia } from '../faults/index.ts';

/** One recovery on the way to a violation. */
export interface Level {
  /** What was chosen in it, in order; 0 past the end. */
  readonly choices: readonly number[];
  /** The power failed again at this one of its cut points; -1: it ran to its end. */
  readonly cut: number;
}

/**
 * How writes persist: each sector for itself (false), or, in a simple tool, in order: `whole`, the power failing between
 * two writes, or `torn`, failing also within one.
 */
export type Linearity = false | 'whole' | 'torn';

const LINEARITIES: readonly Linearity[] = [false, 'whole', 'torn'];

/** Faults that may fire, and the choices that decide which of them do in the workload. */
export interface MediaPlan {
  readonly options: Required<MediaOptions>;
  readonly plan: readonly number[];
}

/** All that a replay needs beside the scenario itself. */
export interface Case {
  readonly scenario: string;
  /** Whatever the caller needs to build the same scenario and stack again. */
  readonly settings: Readonly<Record<string, string>>;
  readonly profile: string;
  /** Found by a strategy for which writes persist in order. */
  readonly linear: Linearity;
  /** Which faults of the medium could fire, and what was chosen in the workload. Absent: none. */
  readonly media?: MediaPlan;
  /** Of the recorded workload. */
  readonly fingerprint: number;
  readonly crashPoint: number;
  readonly levels: readonly Level[];
}

const PREFIX = 'pc1.';
/** A token that a person pastes; also what bounds the work of refusing one. */
const MAX_TOKEN_CHARS = 32768;
const MAX_CHOICES = 1 << 20;
const MAX_LEVELS = 16;

/** One printable word: `pc1.` and base64url of varints, strings and a CRC-32. */
export function encodeToken(theCase: Case): string {
  const out: number[] = [];
  putString(out, theCase.scenario);
  const settings = Object.entries(theCase.settings);
  putVarint(out, settings.length);
  for (const [name, value] of settings) {
    putString(out, name);
    putString(out, value);
  }
  putString(out, theCase.profile);
  putVarint(out, LINEARITIES.indexOf(theCase.linear) + (theCase.media === undefined ? 0 : LINEARITIES.length));
  if (theCase.media !== undefined) {
    putString(out, formatMedia(theCase.media.options));
    putLevel(out, { choices: theCase.media.plan, cut: -1 });
  }
  putVarint(out, theCase.fingerprint);
  putVarint(out, theCase.crashPoint);
  putVarint(out, theCase.levels.length);
  for (const level of theCase.levels) putLevel(out, level);
  const body = Buffer.alloc(out.length + 4);
  body.set(out);
  body.writeUInt32LE(crc32(body.subarray(0, out.length)), out.length);
  return PREFIX + body.toString('base64url');
}

/**
 * Reads a token, of whatever origin.
 * @throws CodedError EINVAL for anything that `encodeToken` does not write
 */
export function decodeToken(token: string): Case {
  if (typeof token !== 'string') throw new TypeError(`token: expected a string, got ${typeof token}`);
  const trimmed = token.trim();
  if (!trimmed.startsWith(PREFIX)) refuse(`expected it to start with ${PREFIX}`);
  if (trimmed.length > MAX_TOKEN_CHARS) refuse(`expected at most ${MAX_TOKEN_CHARS} characters, got ${trimmed.length}`);
  const text = trimmed.slice(PREFIX.length);
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) refuse('expected base64url after the prefix');
  if (bytes.length < 5 || crc32(bytes.subarray(0, -4)) !== bytes.readUInt32LE(bytes.length - 4)) {
    refuse('its checksum does not match; a part may be missing');
  }
  return new Reader(bytes.subarray(0, -4)).readCase();
}

function refuse(reason: string): never {
  throw new CodedError('EINVAL', `token: ${reason}; paste the whole token as explore printed it`);
}

function putVarint(out: number[], value: number): void {
  for (; value >= 0x80; value = Math.floor(value / 0x80)) out.push((value % 0x80) | 0x80);
  out.push(value);
}

function putString(out: number[], text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  putVarint(out, bytes.length);
  for (const byte of bytes) out.push(byte);
}

/** Choices as (value, how often in a row); zeros at the end go without saying. */
function putLevel(out: number[], level: Level): void {
  const runs: [value: number, length: number][] = [];
  for (const value of withoutTrailingZeros(level.choices)) {
    const last = runs.at(-1);
    if (last?.[0] === value) last[1]++;
    else runs.push([value, 1]);
  }
  putVarint(out, level.cut + 1);
  putVarint(out, runs.length);
  for (const [value, length] of runs) {
    putVarint(out, value);
    putVarint(out, length);
  }
}

export function withoutTrailingZeros(choices: readonly number[]): number[] {
  let length = choices.length;
  while (length > 0 && choices[length - 1] === 0) length--;
  return choices.slice(0, length);
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  #choiceCount = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  readCase(): Case {
    const scenario = this.#string();
    const settings: Record<string, string> = Object.create(null);
    for (let left = this.#count(1024); left > 0; left--) {
      const name = this.#string();
      settings[name] = this.#string();
    }
    const profile = this.#string();
    const mode = this.#count(2 * LINEARITIES.length - 1);
    const linear = LINEARITIES[mode % LINEARITIES.length] as Linearity;
    const media = mode < LINEARITIES.length ? {} : { media: this.#media() };
    const fingerprint = this.#count(0xffff_ffff);
    const crashPoint = this.#varint();
    const levels: Level[] = [];
    for (let left = this.#count(MAX_LEVELS); left > 0; left--) levels.push(this.#level());
    if (levels.length === 0 || this.#at !== this.#bytes.length) refuse('its length does not match its content');
    return { scenario, settings: { ...settings }, profile, linear, ...media, fingerprint, crashPoint, levels };
  }

  #media(): MediaPlan {
    const text = this.#string();
    try {
      return { options: parseMedia(text), plan: this.#level().choices };
    } catch (error) {
      if (error instanceof RangeError || error instanceof TypeError) refuse(error.message);
      throw error;
    }
  }

  #level(): Level {
    const cut = this.#varint() - 1;
    const choices: number[] = [];
    for (let left = this.#count(MAX_CHOICES); left > 0; left--) {
      const value = this.#varint();
      const length = this.#count(MAX_CHOICES - this.#choiceCount);
      this.#choiceCount += length;
      for (let i = 0; i < length; i++) choices.push(value);
    }
    return { cut, choices };
  }

  #count(maximum: number): number {
    const count = this.#varint();
    if (count > maximum) refuse(`expected a count of at most ${maximum}, got ${count}`);
    return count;
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) refuse('it ends too early');
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER || scale > 2 ** 49) refuse('it holds a number that is too large');
      if (byte < 0x80) return value;
    }
  }

  #string(): string {
    const length = this.#varint();
    if (length > this.#bytes.length - this.#at) refuse('it ends too early');
    const text = this.#bytes.toString('utf8', this.#at, this.#at + length);
    this.#at += length;
    return text;
  }
}
