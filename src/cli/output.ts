import { styleText } from 'node:util';
import type { Clock } from '../core/index.ts';

/** Where a command writes to; the process's streams, or a test's. */
export interface Output {
  /** Results. */
  out(text: string): void;
  /** Progress and errors. */
  err(text: string): void;
  /** Whether progress may overwrite its own line. */
  readonly isTerminal: boolean;
  readonly useColour: boolean;
  /** For progress, time limits and elapsed times. */
  readonly clock: Clock;
}

type Style = 'red' | 'green' | 'yellow' | 'bold' | 'dim';

/** `text` in a colour, where colours are wanted. */
export function paint(output: Output, style: Style, text: string): string {
  // Whoever made the output has looked at its stream.
  return output.useColour ? styleText(style, text, { validateStream: false }) : text;
}

/** What another program sent, with nothing in it that a terminal obeys. */
export function plainText(text: string): string {
  return text.replace(/\p{Cc}/gu, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Rows in columns that line up; numbers to the right. */
export function formatTable(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const texts = [header, ...rows.map((row) => row.map(String))];
  const widths = header.map((_, column) => Math.max(...texts.map((row) => (row[column] ?? '').length)));
  const isNumeric = header.map(
    (_, column) => rows.length > 0 && rows.every((row) => /^(-$|[~\d])/.test(String(row[column]))),
  );
  return texts.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] as number;
        return isNumeric[column] ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
}
