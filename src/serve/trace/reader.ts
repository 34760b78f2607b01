import { closeSync, openSync, readSync } from 'node:fs';
import { CodedError, messageOf } from '../../core/index.ts';
import { parseHeader, parseLine, type TraceHeader, type TraceLine } from './events.ts';

/** The longest line: a write of the longest payload, in base64. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;
const PIECE_BYTES = 1024 * 1024;

/** A recorded trace, read again each time its lines are asked for: it may be larger than memory. */
export class TraceFile {
  readonly path: string;
  readonly header: TraceHeader;

  /** @throws CodedError EINVAL for what is no trace */
  constructor(path: string) {
    this.path = path;
    const first = textLines(path).next();
    if (first.done === true) throw new CodedError('EINVAL', `trace ${path}: expected a trace, got an empty file`);
    this.header = parseHeader(first.value);
  }

  /**
   * The lines after the header. A last line that was cut short, by a server that was killed, is left out.
   * @throws CodedError EINVAL with the number of the line
   */
  *lines(): Generator<TraceLine, void> {
    let number = 0;
    for (const text of textLines(this.path)) {
      number++;
      if (number > 1) yield parseLine(text, number);
    }
  }
}

/** Complete lines of a file. */
function* textLines(path: string): Generator<string, void> {
  const fd = open(path);
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    let rest: Buffer[] = [];
    let restBytes = 0;
    for (;;) {
      const count = readSync(fd, piece, 0, piece.length, null);
      if (count === 0) return;
      let from = 0;
      for (let end = piece.indexOf(10); end >= 0 && end < count; end = piece.indexOf(10, from)) {
        const line = Buffer.concat([...rest, piece.subarray(from, end)]).toString();
        rest = [];
        restBytes = 0;
        from = end + 1;
        yield line;
      }
      rest.push(Buffer.from(piece.subarray(from, count)));
      restBytes += count - from;
      if (restBytes > MAX_LINE_BYTES) throw new CodedError('EINVAL', `trace ${path}: a line is too long: no trace`);
    }
  } finally {
    closeSync(fd);
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new CodedError('EINVAL', `trace: ${messageOf(cause)}`, { cause });
  }
}
