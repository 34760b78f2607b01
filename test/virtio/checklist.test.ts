import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

/** Requirements that apply to what is offered: zoned devices, 50 to 65, are not. */
const APPLYING = Array.from({ length: 75 }, (_, i) => i + 1).filter((n) => n < 50 || n > 65);

/** The tests of a folder, by file name without its ending. */
function sources(folder: string): Map<string, string> {
  const files = readdirSync(folder).filter((file) => file.endsWith('.test.ts'));
  return new Map(files.map((file) => [file.replace('.test.ts', ''), readFileSync(`${folder}/${file}`, 'utf8')]));
}

const TESTS = sources('test/virtio');
TESTS.delete('checklist');
const PROPERTIES = sources('test/property');

/** Numbers in a test's name: `checklist 5`, `checklist 32 and 33`, `checklist 10 to 12`. */
function numbersIn(source: string): number[] {
  return [...source.matchAll(/'checklist (\d+)(?: (and|to) (\d+))?/g)].flatMap(([, first, word, last]) => {
    const [from, to] = [Number(first), Number(last ?? first)];
    return word === 'to' ? Array.from({ length: to - from + 1 }, (_, i) => from + i) : [from, to];
  });
}

/** Rows of the tables in the documentation that have this many columns, without their heads. */
function rowsOf(columnCount: number): string[][] {
  const lines = readFileSync('docs/virtio.md', 'utf8').split('\n');
  const section = lines.slice(lines.indexOf('## Requirements'));
  const rows = section.filter((line) => line.startsWith('| ')).map((line) => line.slice(2, -2).split(' | '));
  return rows.filter((row) => row.length === columnCount && row.at(-1) !== 'result');
}

describe('the checklist', () => {
  const files = new Map<number, string[]>();
  for (const [file, source] of TESTS) {
    for (const number of new Set(numbersIn(source))) files.set(number, [...(files.get(number) ?? []), file]);
  }

  it('every requirement that applies has a test', () => {
    expect(APPLYING.filter((number) => !files.has(number))).toEqual([]);
    expect([...files.keys()].filter((number) => !APPLYING.includes(number))).toEqual([]);
  });

  it('the table in the documentation has a row for each, and names the tests that there are', () => {
    const rows = rowsOf(6).filter(([number]) => number !== '50-65');
    expect(rows.map(([number]) => Number(number))).toEqual(APPLYING);
    for (const [number, , , rings, tests, result] of rows) {
      expect([number, tests]).toEqual([number, files.get(Number(number))?.toSorted().join(', ')]);
      expect(['both', 'split', 'packed']).toContain(rings);
      expect(result).toBe('held');
    }
  });

  it('what the table says to run on both rings does', () => {
    const onBoth = (source: string) => source.includes('describe.each(RINGS)');
    for (const [number, , , rings] of rowsOf(6)) {
      if (rings !== 'both') continue;
      expect([number, files.get(Number(number))!.some((file) => onBoth(TESTS.get(file)!))]).toEqual([number, true]);
    }
  });

  it('every hostile case of the table is the name of a test', () => {
    const rows = rowsOf(4);
    expect(rows.length).toBeGreaterThan(30);
    for (const [, file, name] of rows) {
      const source = file!.startsWith('property/') ? PROPERTIES.get(file!.slice(9)) : TESTS.get(file!);
      expect([file, name, source?.includes(name!)]).toEqual([file, name, true]);
    }
  });

  it('sees a number that no test names', () => {
    expect(numbersIn("it('checklist 7, virtio 2.7'); it('checklist 10 to 12'); it('checklist 32 and 33')")).toEqual([
      7, 7, 10, 11, 12, 32, 33,
    ]);
  });
});
