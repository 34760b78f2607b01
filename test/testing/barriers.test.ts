import { describe, expect, test } from 'vitest';
import { explore, History, type KeyValueContent, type KeyValueOp, replay } from '../../src/explore/index.ts';
import type { ProfileName } from '../../src/faults/index.ts';
import { type Barrier, type CommitMode, type StoreRules, soundRules } from '../../src/statefs/index.ts';
import { bytes } from '../statefs/helpers.ts';
import { checkPrefix, type LazyStep, lazyScenario } from './lazy-scenario.ts';

const put = (key: string, size: number): LazyStep => ({ kind: 'put', key: `/state/${key}`, value: bytes(size, size) });
const putAtomic = (key: string, size: number): LazyStep => ({
  kind: 'putAtomic',
  key: `/state/${key}`,
  value: bytes(size, size),
});

/** Those of compaction and of a scrub have scenarios of their own. */
type WriteBarrier = Exclude<Barrier, 'move' | 'moved' | 'scrub'>;

/** What each barrier is for, as the shortest script that needs it. */
const scripts: Readonly<Record<WriteBarrier, readonly LazyStep[]>> = {
  // Success that is reported before anything is durable.
  commit: [putAtomic('a', 20)],
  // A commit that vouches for temp frames which the cut takes away.
  temp: [putAtomic('a', 600)],
  // Two lives of one epoch: what the first left takes effect behind a group of the second.
  life: [put('a', 20), put('b', 30)],
  // What a program left in the cache is read by the next one, shown, and then lost.
  open: [put('a', 20), 'kill'],
  // `close` reports durable what never was.
  close: [put('a', 20), 'close'],
};
const names = Object.keys(scripts) as WriteBarrier[];

function without(barrier: Barrier): StoreRules {
  // Recovery makes up for a missing life barrier where it notices the life that no superblock tells of.
  const lostSuperblocks = barrier !== 'life';
  return { ...soundRules, lostSuperblocks, barriers: { ...soundRules.barriers, [barrier]: false } };
}

function commitFor(barrier: Barrier): CommitMode {
  return barrier === 'temp' ? 'ordered' : 'checksummed';
}

describe('unsynced puts, close, and a program that dies with the power on', () => {
  const long = [putAtomic('a', 100), put('b', 20), put('a', 700), put('b', 30), 'sync', put('c', 10), 'kill'] as const;
  const all: [string, readonly LazyStep[]][] = [
    ...names.map((name): [string, readonly LazyStep[]] => [name, scripts[name]]),
  ];
  all.push([
    'long',
    [...long, { kind: 'delete', key: '/state/b' }, put('d', 40), put('e', 2500), 'close', put('f', 5)],
  ]);
  const profileNames: ProfileName[] = ['nvme-512', '4kn', '512e'];
  const cases = all.flatMap(([name, steps]) => profileNames.map((profile) => ({ name, steps, profile })));

  test.each(cases)('$name on $profile: complete and clean', ({ name, steps, profile }) => {
    const result = explore(lazyScenario(name, steps), { depth: 2, profile });
    expect(result.violations).toEqual([]);
    expect(result.clean).toBe(true);
  });
});

describe('each barrier of the write path is needed:', () => {
  test.each(names)('without "%s" the explorer finds a loss, and its token repeats it', (barrier) => {
    const scenario = lazyScenario(barrier, scripts[barrier], { rules: without(barrier), commit: commitFor(barrier) });
    const result = explore(scenario, { depth: 2, maxViolations: 1 });
    expect(result.violations).toHaveLength(1);
    expect(replay(scenario, result.violations[0]?.token as string).violation).toBe(result.violations[0]?.message);
  });
});

describe('the oracle of unsynced puts', () => {
  const op = (key: string): KeyValueOp => ({ kind: 'put', key, value: bytes(1) });
  const holding = (...keys: string[]): KeyValueContent => new Map(keys.map((key) => [key, bytes(1)]));
  const [a, b] = [op('a'), op('b')];
  const begun = new History<KeyValueOp, KeyValueContent>()
    .with({ kind: 'begin', op: a })
    .with({ kind: 'begin', op: b });
  const cut = begun.with({ kind: 'cut' });

  test('takes any first part of what was pending, and no other part', () => {
    for (const keys of [[], ['a'], ['a', 'b']]) checkPrefix(holding(...keys), cut);
    for (const keys of [['b'], ['c'], ['a', 'b', 'c']])
      expect(() => checkPrefix(holding(...keys), cut)).toThrow(/allowed/);
  });

  test('wants what was acknowledged, and what was shown', () => {
    const acknowledged = begun.with({ kind: 'acknowledge', op: b }).with({ kind: 'cut' });
    checkPrefix(holding('a', 'b'), acknowledged);
    for (const keys of [[], ['a']]) expect(() => checkPrefix(holding(...keys), acknowledged)).toThrow();
    const shown = cut.with({ kind: 'observe', observation: holding('a') }).with({ kind: 'cut' });
    checkPrefix(holding('a'), shown);
    for (const keys of [[], ['a', 'b']]) expect(() => checkPrefix(holding(...keys), shown)).toThrow();
  });
});
