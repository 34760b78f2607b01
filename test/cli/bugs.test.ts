import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type BugsRow, markdownRows, markdownSummary } from '../../src/cli/bugs-report.ts';
import { benchmarkCases, benchmarkStrategies } from '../../src/testing/index.ts';
import { run } from './helpers.ts';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const stored = JSON.parse(read('docs/seeded-bugs.json')) as BugsRow[];

/** What stands between the two comments of a page, without the spaces that a formatter adds. */
function tableIn(path: string): string {
  const [, table] = /<!-- bugs: [^>]*-->\n([\s\S]*?)<!-- \/bugs -->/.exec(read(path))!;
  return squeezed(table!);
}

function squeezed(table: string): string {
  return table.replaceAll(/ +/g, ' ').replaceAll(/-{2,}/g, '--').trim();
}

describe('the published tables', () => {
  it('are those of docs/seeded-bugs.json: write them anew with powercut bugs --json and --markdown', () => {
    expect(tableIn('README.md')).toBe(squeezed(markdownSummary(stored)));
    expect(tableIn('docs/seeded-bugs.md')).toBe(squeezed(markdownRows(stored)));
  });
  it('have every case and every strategy, under their titles and sources', () => {
    const rows = benchmarkCases.map(({ id, family, title, source, isControl }) => [
      id,
      family,
      title,
      source,
      isControl,
    ]);
    expect(stored.map((row) => [row.id, row.family, row.title, row.source, row.control])).toEqual(rows);
    for (const row of stored) {
      expect(Object.keys(row.strategies)).toEqual(benchmarkStrategies.map(({ name }) => name));
    }
  });
  it('show what has to be shown: every bug found by the deepest strategy, no alarm by any', () => {
    for (const row of stored) {
      if (row.control) expect(Object.values(row.strategies).every(({ found }) => !found)).toBe(true);
      else expect(row.strategies['lazy-recovery-cuts']?.found).toBe(true);
    }
  });
});

describe('powercut bugs', () => {
  it('--json: one row a case, with each strategy; exit code 0 where the last one finds it', async () => {
    const { code, out } = await run('bugs', '--only', '17', '--json');
    expect(code).toBe(0);
    const [row, ...more] = JSON.parse(out) as BugsRow[];
    expect(more).toEqual([]);
    expect(row).toMatchObject({ id: 17, family: 'C', control: false, title: 'replay is not idempotent' });
    expect(row!.strategies['lazy']).toMatchObject({ found: false, shrunkOperations: null, shrunkDeviations: null });
    expect(row!.strategies['lazy-recovery-cuts']).toMatchObject({
      found: true,
      shrunkOperations: 1,
      shrunkDeviations: 0,
    });
    const { recoveries, elapsedMs } = row!.strategies['lazy-recovery-cuts']!;
    expect([Number.isInteger(recoveries), Number.isInteger(elapsedMs)]).toEqual([true, true]);
  });
  it('a table for people, with the verdict; exit code 1 where the strategy misses it', async () => {
    const found = await run('bugs', '--only', '14', '--strategy', 'lazy');
    expect(found.code).toBe(0);
    expect(found.out).toMatch(
      /^bug +family +lazy +operations +deviations +what is wrong\n *14 +C +\d+ +2 +1 +a hole between/,
    );
    expect(found.out).toContain('lazy finds all 1; median smallest failure: 2 operations, 1 deviations');
    const missed = await run('bugs', '--only', '14', '--strategy', 'prefix');
    expect(missed.code).toBe(1);
    expect(missed.out).toContain('prefix does not find bug 14');
  });
  it('a sound store by its name; a budget too small to find anything', async () => {
    const sound = await run('bugs', '--only', 'segmented-log', '--strategy', 'lazy-recovery-cuts');
    expect(sound).toMatchObject({ code: 0 });
    expect(sound.out).toContain('nothing found; no alarm on 1 sound stores');
    const poor = await run('bugs', '--only', '31', '--strategy', 'lazy', '--budget', '1', '--markdown');
    expect(poor.code).toBe(1);
    expect(poor.out).toContain('| 31 | C | a dirty page is silently skipped |');
  });
  it('misuse is told in one line', async () => {
    const { code, err } = await run('bugs', '--only', '41');
    expect(code).toBe(2);
    expect(err).toMatch(
      /^powercut: --only: expected a number from 1 to 40, or one of statefs-checksummed,.* got "41"\n$/,
    );
    expect((await run('bugs', '--strategy', 'psychic')).code).toBe(2);
    expect((await run('bugs', '--json', '--markdown')).code).toBe(2);
  });
});

describe('powercut explore --faults', () => {
  it('counts what fired; what it finds replays; misuse is told', async () => {
    const { code, out } = await run(
      'explore',
      'media',
      '--break',
      'lost-superblocks',
      '--faults',
      'lost-write',
      '--max-recoveries',
      '2000',
      '--json',
    );
    expect(code).toBe(1);
    const result = JSON.parse(out) as {
      faults: Record<string, number>;
      violations: { token: string; message: string }[];
    };
    expect(result.faults['lost-write']).toBeGreaterThan(0);
    const { token, message } = result.violations[0]!;
    const again = await run('replay', token, '--json');
    expect([again.code, (JSON.parse(again.out) as { violation: string }).violation]).toEqual([1, message]);
    const strict = await run('explore', 'device-key', '--faults', 'lost-write');
    expect([strict.code, strict.err]).toEqual([
      2,
      'powercut: --faults: device-key knows no faults: take media, or a scenario of your own\n',
    ]);
    expect((await run('explore', '--faults', 'gremlins')).err).toContain('expected some of bit-rot');
    expect((await run('explore', '--max-faults', '2')).err).toContain('it goes with --faults');
  });

  it('shards are parts of one whole', async () => {
    const media = ['explore', 'media', '--faults', 'latent-error', '--depth', '1', '--plain', '--json'];
    type Counts = { recoveries: number; crashPoints: number; faults: Record<string, number> };
    const countsOf = async (...more: string[]): Promise<Counts> =>
      JSON.parse((await run(...media, ...more)).out) as Counts;
    const whole = await countsOf();
    const parts = [await countsOf('--shard', '1/2'), await countsOf('--shard', '2/2')];
    for (const counts of [whole, ...parts]) {
      expect(counts.recoveries).toBeGreaterThan(0);
      expect(counts.faults['latent-error']).toBeGreaterThan(0);
    }
    const sum = (of: (counts: Counts) => number): number => parts.reduce((total, part) => total + of(part), 0);
    expect(sum((part) => part.recoveries)).toBe(whole.recoveries);
    expect(sum((part) => part.crashPoints)).toBe(whole.crashPoints);
  });
});
