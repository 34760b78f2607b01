import { CodedError, describeValue } from '../../core/index.ts';

/** The first line of a trace. */
export interface TraceHeader {
  readonly powercutTrace: 1;
  readonly sectorBytes: number;
  readonly sectorCount: number;
  /** The disk's profile; `none` where it had no volatile cache. */
  readonly profile: string;
}

/**
 * A line of a trace. Bytes are base64. Operations are numbered as the disk counts them; a number that was acknowledged
 * stands for the request that the operation ended.
 */
export type TraceLine =
  /** What was durable when the trace began; what no such line names was zeros. */
  | { readonly kind: 'base'; readonly sector: number; readonly data: string }
  | {
      readonly kind: 'write';
      readonly operation: number;
      readonly sector: number;
      readonly fua: boolean;
      readonly data: string;
    }
  | {
      readonly kind: 'discard' | 'writeZeroes';
      readonly operation: number;
      readonly sector: number;
      readonly sectorCount: number;
    }
  | { readonly kind: 'flush'; readonly operation: number }
  | { readonly kind: 'acknowledge'; readonly operation: number }
  /** What somebody said over the control socket: an operation of their own begins, has succeeded, has failed. */
  | { readonly kind: 'mark'; readonly mark: Mark; readonly name: string }
  | { readonly kind: 'cut' }
  /** The last line of a trace that was ended in order. */
  | { readonly kind: 'end'; readonly lines: number };

export type Mark = 'begin' | 'acknowledge' | 'fail';

export const MARKS: readonly Mark[] = ['begin', 'acknowledge', 'fail'];

/** @throws CodedError EINVAL for what is no first line of a trace */
export function parseHeader(text: string): TraceHeader {
  const header = parseObject(text, 1);
  if (header['powercutTrace'] !== 1) {
    throw badLine(1, `expected {"powercutTrace":1,...}, got ${describeValue(text)}: this is no trace, or a newer one`);
  }
  const { sectorBytes, sectorCount, profile } = header;
  if (![512, 1024, 2048, 4096].includes(sectorBytes as number)) {
    throw badLine(1, `sectorBytes: expected 512 to 4096, got ${describeValue(sectorBytes)}`);
  }
  const count = integer(sectorCount, 'sectorCount', 1);
  if (count < 1) throw badLine(1, 'sectorCount: expected at least 1, got 0');
  return { powercutTrace: 1, sectorBytes: sectorBytes as number, sectorCount: count, profile: String(profile) };
}

/** @throws CodedError EINVAL, with the number of the line */
export function parseLine(text: string, number: number): TraceLine {
  const line = parseObject(text, number);
  const kind = line['kind'];
  const field = (name: string): number => integer(line[name], name, number);
  switch (kind) {
    case 'base':
      return { kind, sector: field('sector'), data: string(line['data'], 'data', number) };
    case 'write':
      return {
        kind,
        operation: field('operation'),
        sector: field('sector'),
        fua: line['fua'] === true,
        data: string(line['data'], 'data', number),
      };
    case 'discard':
    case 'writeZeroes':
      return { kind, operation: field('operation'), sector: field('sector'), sectorCount: field('sectorCount') };
    case 'flush':
    case 'acknowledge':
      return { kind, operation: field('operation') };
    case 'mark':
      return { kind, mark: mark(line['mark'], number), name: string(line['name'], 'name', number) };
    case 'cut':
      return { kind };
    case 'end':
      return { kind, lines: field('lines') };
    default:
      throw badLine(number, `kind: expected one of a trace, got ${describeValue(kind)}`);
  }
}

function parseObject(text: string, number: number): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {}
  throw badLine(number, `expected a JSON object, got ${describeValue(text)}`);
}

function integer(value: unknown, name: string, number: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw badLine(number, `${name}: expected a whole number, got ${describeValue(value)}`);
}

function string(value: unknown, name: string, number: number): string {
  if (typeof value === 'string') return value;
  throw badLine(number, `${name}: expected a string, got ${describeValue(value)}`);
}

function mark(value: unknown, number: number): Mark {
  if (MARKS.includes(value as Mark)) return value as Mark;
  throw badLine(number, `mark: expected one of ${MARKS.join(', ')}, got ${describeValue(value)}`);
}

function badLine(number: number, message: string): CodedError {
  return new CodedError('EINVAL', `trace, line ${number}: ${message}`);
}
