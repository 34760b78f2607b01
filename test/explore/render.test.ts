import { expect, it } from 'vitest';
import { explore, renderStory, replay, type Scenario } from '../../src/explore/index.ts';

const cycle: Record<string, unknown> = {};
cycle['self'] = cycle;

it.each([
  ['a number', 7, '7'],
  ['a text', 'a "b"', '"a \\"b\\""'],
  ['a bigint', 7n, '"7"'],
  ['bytes', new Uint8Array([1, 2]), '"2 bytes 0102"'],
  ['bytes that know JSON', Buffer.from([1, 2]), '"2 bytes 0102"'],
  ['a Map', new Map([['k', new Uint8Array(20)]]), `{"k":"20 bytes ${'0'.repeat(32)}..."}`],
  ['a Set', new Set([1, 2]), '[1,2]'],
  ['a cycle', cycle, '[object Object]'],
  ['a function', () => 1, '[object Function]'],
  ['what is long', 'x'.repeat(500), `"${'x'.repeat(119)}...`],
])('a story shows what the recovery observed, the violating one too: %s', (_name, observation, text) => {
  const scenario: Scenario<string, unknown> = {
    name: 'odd',
    disk: { sectorCount: 8 },
    format() {},
    workload() {},
    recover: () => observation,
    invariant() {
      throw new Error('not so');
    },
  };
  const token = explore(scenario).violations[0]!.token;
  const lines = renderStory(replay(scenario, token));
  expect(lines.slice(-3)).toEqual([`  observed ${text}`, '', 'VIOLATION: not so']);
});

it('an operation that holds bytes is told in a few words', () => {
  const scenario: Scenario<object, number> = {
    name: 'bytes',
    disk: { sectorCount: 8 },
    format() {},
    workload(_disk, run) {
      const op = { kind: 'put', key: 'k', value: new Uint8Array(3) };
      run.begin(op);
      run.acknowledge(op);
    },
    recover: () => 1,
    invariant() {},
  };
  expect(explore(scenario).points.at(-1)?.label).toBe(
    'at the end, after {"kind":"put","key":"k","value":"3 bytes 000000"}',
  );
});
