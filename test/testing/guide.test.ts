import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { explore, renderStory, replay, type Scenario, type Violation } from '../../src/explore/index.ts';

const guide = readFileSync(new URL('../../docs/guide.md', import.meta.url), 'utf8');
const files = new Map(
  [...guide.matchAll(/```ts\n\/\/ ([\w.]+)\n([\s\S]*?)```/g)].map((match) => [match[1], match[2]!]),
);
/** What the guide says is printed, by the comment above it. */
const printedBy = (command: string) =>
  new RegExp(`what ${command} prints -->\n\`\`\`\n([\\s\\S]*?)\`\`\``).exec(guide)?.[1] as string;

const repair = /```ts\n\/\/ store\.ts: instead .*\n([\s\S]*?)```/.exec(guide)?.[1] as string;
const brokenLine = '    if (padded.length > 0) this.#disk.write(this.#end + 1, padded);\n';

/** The guide's files, in a folder that finds what is installed here. */
function folderWith(store: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'powercut-guide-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, 'node_modules'), 'junction');
  for (const [name, text] of files) writeFileSync(join(folder, name as string), name === 'store.ts' ? store : text);
  return folder;
}

const original = files.get('store.ts') as string;
const broken = folderWith(original);
const mended = folderWith(original.replace(brokenLine, repair));

const brokenScenario: Scenario = (await import(join(broken, 'crash.ts'))).scenario;
const mendedScenario: Scenario = (await import(join(mended, 'crash.ts'))).scenario;

describe('the guide', () => {
  it('has a store of sixty lines', () => {
    expect([...files.keys()]).toEqual(['store.ts', 'crash.ts', 'crash.test.ts', 'live.test.ts']);
    expect(original.trim().split('\n').length).toBeLessThanOrEqual(60);
    expect(original).toContain(brokenLine);
  });

  it('shows the cut that explore finds, and the story that replay tells', () => {
    const { violations } = explore(brokenScenario, { depth: 1 });
    const textOf = ({ message, where }: Violation) =>
      [`VIOLATION: ${message}`, ...where.map((one) => `  power cut ${one}`), ''].join('\n');
    const shown = violations.find((violation) => textOf(violation) === printedBy('explore'));
    expect(violations.map(textOf)).toContain(printedBy('explore'));
    const story = renderStory(replay(brokenScenario, shown!.token), brokenScenario.describe);
    expect(story.join('\n')).toContain(printedBy('replay').trimEnd());
  });

  it('mends the store: it survives, but on the disk that the guide names', () => {
    for (const profile of ['nvme-512', '4kn', 'harsh'] as const) {
      expect(explore(mendedScenario, { profile })).toMatchObject({ clean: true, depth: 2 });
    }
    expect(guide).toContain('On `--profile 512e` the mended store still fails');
    expect(explore(mendedScenario, { profile: '512e' }).violations.length).toBeGreaterThan(0);
  });
});

describe('the tests of the guide hold for the mended store', async () => {
  await import(join(mended, 'crash.test.ts'));
  await import(join(mended, 'live.test.ts'));
});

describe('and see the broken one:', () => {
  it('the matcher', async () => {
    await expect(expect(brokenScenario).toSurviveEveryCrash({ depth: 1 })).rejects.toThrow(/POWER CUT before flush 1/);
  });
});
