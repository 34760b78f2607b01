import { describe, expect, test } from 'vitest';
import { type ExploreOptions, type ExploreResult, exploreAsync, replayAsync } from '../../src/explore/index.ts';
import { type DiskProfile, profiles } from '../../src/faults/index.ts';
import type { CommitMode } from '../../src/statefs/index.ts';
import {
  brokenRules,
  keystoredService,
  type ServiceBreak,
  type ServiceWorkload,
  serviceBreaks,
  serviceScenario,
  services,
  updatedService,
} from '../../src/testing/index.ts';
import { virtioThrough } from '../../src/virtio/index.ts';

const modes: CommitMode[] = ['ordered', 'checksummed'];
const all: [string, ServiceWorkload][] = Object.entries(services);

function expectClean(result: ExploreResult): void {
  expect(result.violations).toEqual([]);
  expect(result).toMatchObject({ complete: true, clean: true, depth: 2, nondeterminism: undefined });
}

/** What the explorer had to do, direct or through a ring: a checker gone blind does less. */
const figures: Record<string, object> = {
  'updated ordered': { crashPoints: 44, images: 77n, recoveries: 385 },
  'updated checksummed': { crashPoints: 31, images: 77n, recoveries: 385 },
  'keystored ordered': { crashPoints: 13, images: 24n, recoveries: 222 },
  'keystored checksummed': { crashPoints: 10, images: 24n, recoveries: 222 },
};

describe('a service, two cuts deep, is never without its state', () => {
  const cases = all.flatMap(([name, service]) => modes.map((commit) => ({ name, service, commit })));

  test.each(cases)('$name, $commit, through virtio', async ({ name, service, commit }) => {
    const result = await exploreAsync(serviceScenario(service, { commit }), { through: virtioThrough() });
    expectClean(result);
    expect(result).toMatchObject(figures[`${name} ${commit}`] as object);
  });

  /** Tearing inside the sector that holds the record, in two places of it. */
  const coarse: DiskProfile = { ...profiles.harsh, name: 'harsh-256', tearStepBytes: 256 };
  const media = all.flatMap(([name, service]) => [
    { name, service, profile: profiles['4kn'], medium: '4kn' },
    { name, service, profile: coarse, medium: coarse.name },
  ]);

  test.each(media)('$name on $medium', async ({ service, profile }) => {
    expectClean(await exploreAsync(serviceScenario(service), { profile }));
  });

  test('services has them by name', () => {
    for (const [name, service] of all) expect(service.name).toBe(name);
    expect(all.map(([name]) => name)).toEqual(['updated', 'keystored']);
  });
});

describe('a checker gone blind would be noticed', () => {
  const broken: [string, ServiceBreak, ServiceWorkload, RegExp][] = [
    ['updated', 'two-keys', updatedService, /boot control: expected a record with one choice, got priority 15 twice/],
    ['updated', 'unsynced', updatedService, /bootctl": expected 16 bytes/],
    ['keystored', 'two-keys', keystoredService, /device key: expected a whole key, got 86 bytes/],
    ['keystored', 'unsynced', keystoredService, /device.key": expected 172 bytes .*, got nothing/],
  ];

  test.each(broken)('%s loses its state, %s', async (_name, wrong, service, message) => {
    const scenario = serviceScenario(service, { broken: wrong });
    const options: ExploreOptions = { maxViolations: 1 };
    const { violations } = await exploreAsync(scenario, options);
    expect(violations[0]?.message).toMatch(message);
    const story = await replayAsync(scenario, violations[0]?.token as string);
    expect(story.violation).toBe(violations[0]?.message);
  });

  test('every way to run a service wrongly is tried', () => {
    expect([...new Set(broken.map(([, wrong]) => wrong))].sort()).toEqual(Object.keys(serviceBreaks).sort());
  });

  const cases = all.map(([name, service]) => ({ name, service }));

  test.each(cases)('$name loses its state on a store that reports success before its flush', async ({ service }) => {
    const rules = brokenRules['commit-flush']?.rules;
    if (rules === undefined) throw new Error('there is no such rule');
    expect((await exploreAsync(serviceScenario(service, { rules }), { maxViolations: 1 })).clean).toBe(false);
  });
});
