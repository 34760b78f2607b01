import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { run } from './helpers.ts';

const folder = mkdtempSync(join(tmpdir(), 'powercut-readme-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const snippets = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1] as string);

it('the summary of the README is what explore prints', async () => {
  const { out } = await run('explore');
  const shown = /```\n(COMPLETE: [\s\S]*?)```/.exec(readme)?.[1] as string;
  const withoutTime = (text: string) => text.replace(/ in [\d.]+ m?s$/m, '');
  expect(withoutTime(out)).toContain(withoutTime(shown));
});

// A served disk waits for clients: test/cli/serve.test.ts plays that sequence.
it.each([...readme.matchAll(/^npx powercut (?!serve|ctl)(.*?)(?: +#.*)?$/gm)].map((match) => [match[1] as string]))(
  'the README says: powercut %s',
  async (line) => {
    const { code, err } = await run(...line.split(' '));
    expect(err).toBe('');
    expect(code).toBe(line.includes('--break') ? 1 : 0);
  },
);

it('the scenario of the README finds its bug, and is clean once mended', async () => {
  const text = snippets.find((snippet) => snippet.includes("name: 'counter'")) as string;
  expect(text.trim().split('\n').length).toBeLessThanOrEqual(15);
  const path = join(folder, 'counter.ts');
  writeFileSync(path, text);
  const broken = await run('explore', path);
  expect(broken.code).toBe(1);
  expect(broken.out).toMatch(/was acknowledged, and the disk says/);
  writeFileSync(path, text.replace("run.acknowledge('count');", "disk.flush(); run.acknowledge('count');"));
  const mended = await run('explore', path);
  expect(mended.out).toMatch(/^COMPLETE/m);
  expect(mended.code).toBe(0);
});

it('the store of the README runs as it stands there', async () => {
  const text = snippets.find((snippet) => snippet.includes('putAtomic')) as string;
  const body = text.replace(/import .*;\n/g, '').replace("'state.img'", JSON.stringify(join(folder, 'state.img')));
  const { FileDevice } = await import('../../src/blockdev/index.ts');
  const { format, open } = await import('../../src/statefs/index.ts');
  const events: unknown[] = [];
  new Function('FileDevice', 'format', 'open', 'console', body)(FileDevice, format, open, {
    log: (event: unknown) => events.push(event),
  });
  expect(events).toContainEqual({ type: 'replayed', keys: 0, lastSequence: 0, damage: 0 });
});
