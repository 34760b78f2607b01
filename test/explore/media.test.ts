import { describe, expect, it } from 'vitest';
import { type ExploreOptions, explore, renderStory, replay, type Scenario } from '../../src/explore/index.ts';
import type { MediaFaultKind } from '../../src/faults/index.ts';
import { sectorOf, twins } from './twins.ts';

const under = (kinds: readonly MediaFaultKind[], more: ExploreOptions = {}): ExploreOptions => ({
  depth: 1,
  media: { kinds, rotStepBytes: 128 },
  ...more,
});

describe('media faults in an exploration', () => {
  const kinds: MediaFaultKind[] = [
    'bit-rot',
    'latent-error',
    'misdirected-read',
    'misdirected-write',
    'lost-write',
    'read-error',
    'write-error',
  ];
  for (const kind of kinds) {
    it(`${kind}: a store that compares its copies is clean, to the depth of two`, () => {
      const result = explore(twins(true), under([kind], { depth: 2 }));
      expect(result.violations).toEqual([]);
      expect(result).toMatchObject({ complete: true, clean: true });
      expect(result.faults[kind]).toBeGreaterThan(0);
    });
  }
  for (const kind of ['bit-rot', 'misdirected-read', 'misdirected-write', 'lost-write'] as const) {
    it(`${kind}: one that trusts a copy is caught, and the case replays from its token`, () => {
      const result = explore(twins(false), under([kind]));
      const [violation] = result.violations;
      expect(violation).toBeDefined();
      const story = replay(twins(false), violation!.token);
      expect(story.violation).toBe(violation!.message);
      expect(renderStory(story).join('\n')).toContain(`FAULT ${kind.replace('-', ' ')}`);
      expect(violation!.history.some((event) => event.kind === 'fault' && event.fault.kind === kind)).toBe(true);
    });
  }
  it('one fault at most, unless more are asked for; two take both copies', () => {
    const both = under(['lost-write'], { media: { kinds: ['lost-write'], maxFaults: 2 } });
    expect(explore(twins(true), under(['lost-write'])).violations).toEqual([]);
    const { violations } = explore(twins(true), both);
    expect(violations[0]?.plan).toEqual([1, 1]);
    expect(replay(twins(true), violations[0]!.token).violation).toBe('got 1');
  });
  it('a kind that was asked for and never fired makes the result incomplete', () => {
    const result = explore(
      twins(true),
      under(['stale-read', 'bit-rot'], {
        media: { kinds: ['latent-error'], zone: { firstSector: 7, sectorCount: 1 } },
      }),
    );
    expect(result).toMatchObject({ complete: false, clean: false, faults: {} });
    expect(result.incompleteReason).toBe('no fault of this kind fired: latent-error');
  });
  it('every workload counts once: its moments up to the first fault are those of the one without', () => {
    const none = explore(twins(true), { depth: 1 });
    const lost = explore(twins(true), under(['lost-write']));
    expect(none.momentsCovered).toBe(7);
    // begin, [fault], flush, write, flush, acknowledge and begin, write, flush, [fault], flush, acknowledge.
    expect(lost.momentsCovered).toBe(7 + 5 + 3);
    expect(lost.faults).toEqual({ 'lost-write': 2 });
  });
  it('a workload that a fault brings down ends there; one that fails without a fault is no scenario', () => {
    const fragile: Scenario<number, number | 'damaged'> = {
      ...twins(true),
      workload(device, run) {
        run.begin(2);
        for (const sector of [2, 5]) device.write(sector, sectorOf(2));
        device.flush();
        run.acknowledge(2);
      },
    };
    expect(explore(fragile, under(['write-error', 'hung-request'])).violations).toEqual([]);
    const failing = () => {
      throw new Error('no');
    };
    expect(() => explore({ ...fragile, workload: failing }, under(['write-error']))).toThrow('no');
  });
  it('time does not pass: latency spikes are refused', () => {
    expect(() => explore(twins(true), under(['latency-spike']))).toThrow(/no time passes/);
  });
  it('random and bounded strategies see them as well, and repeat', () => {
    const random = under(['bit-rot'], { strategy: 'random', runs: 200, seed: 3 });
    expect(explore(twins(false), random).violatingRecoveries).toBeGreaterThan(0);
    const again = () => ({ ...explore(twins(false), random), elapsedMs: 0 });
    expect(again()).toEqual(again());
    expect(explore(twins(false), under(['bit-rot'], { strategy: 'bounded', bound: 1 })).violations.length).toBe(5);
  });
});
