import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { holdProperty, isCaught, parseFactor, parseReplay, replayLine } from './replay.ts';

const FILE = 'test/property/replay.test.ts';
const belowAHundred = fc.property(fc.nat({ max: 100_000 }), (value) => {
  if (value >= 100) throw new Error(`${value} is too much`);
});

function messageThrown(run: () => void): string {
  try {
    run();
  } catch (error) {
    return (error as Error).message;
  }
  return '';
}

describe('a failing property', () => {
  test('prints the line that repeats it', () => {
    const message = messageThrown(() => holdProperty(FILE, 'some name', belowAHundred, { numRuns: 100 }));
    const line = message.split('\n').find((one) => one.startsWith('repeat it: '));
    expect(line).toMatch(
      /^repeat it: POWERCUT_SEED='-?\d+,[\d:]+' npx vitest run test\/property\/replay.test.ts -t 'some name'$/,
    );
    // And what the line says leads to the same counterexample.
    const seedAndPath = parseReplay(/'(-?\d+,[\d:]+)'/.exec(line as string)?.[1]);
    const again = fc.check(belowAHundred, { ...seedAndPath, numRuns: 1, endOnFailure: true });
    expect(again.counterexample).toEqual([100]);
    expect(message).toContain('100 is too much');
  });

  test('is seen by isCaught, and a holding one is not', () => {
    expect(isCaught(belowAHundred, { numRuns: 100, seed: 1 })).toBe(true);
    expect(
      isCaught(
        fc.property(fc.nat(), () => undefined),
        { numRuns: 10, seed: 1 },
      ),
    ).toBe(false);
  });
});

test('the variable holds a seed, or a seed and a path', () => {
  expect(parseReplay(undefined)).toBeUndefined();
  expect(parseReplay('-5')).toEqual({ seed: -5 });
  expect(parseReplay(' 12,0:3:1 ')).toEqual({ seed: 12, path: '0:3:1' });
  for (const wrong of ['', 'x', '1,', '1,a', '1.5']) expect(() => parseReplay(wrong)).toThrow(/POWERCUT_SEED/);
  expect(parseReplay(/'(.+?)'/.exec(replayLine(FILE, 'name', 7, null))?.[1])).toEqual({ seed: 7 });
});

test('the factor is a whole number', () => {
  expect(parseFactor(undefined)).toBe(1);
  expect(parseFactor('40')).toBe(40);
  for (const wrong of ['', '0', '-1', '1.5', 'x']) expect(() => parseFactor(wrong)).toThrow(/POWERCUT_RUNS/);
});

test('no property of this folder goes another way, without its replay line', () => {
  const folder = new URL('./', import.meta.url);
  const others = readdirSync(folder).filter((name) => !name.startsWith('replay.'));
  expect(others.length).toBeGreaterThan(3);
  for (const name of others) {
    expect(readFileSync(new URL(name, folder), 'utf8'), name).not.toMatch(/\bfc\s*\.\s*(?:assert|check)\b/);
  }
});
