import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'powercut-process-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const root = fileURLToPath(new URL('../..', import.meta.url));
const main = join(root, 'src/cli/main.ts');

/** Runs the command on a scenario with some members replaced, as a process of its own. */
function explore(members: string, before = ''): { code: number | null; out: string; err: string } {
  const file = join(folder, 'scenario.mjs');
  writeFileSync(
    file,
    `${before}
    const sector = new Uint8Array(512);
    export default { name: 'x', disk: { sectorCount: 8 }, format() {}, workload() {}, invariant() {},
      recover: (disk) => (disk.read(0, sector), sector[0]), ${members} };`,
  );
  const args = ['--import', 'jiti/register', main, 'explore', file];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    // Only so that a command that hangs ends the test; starting one takes seconds on a busy machine.
    timeout: 240_000,
  });
  return { code: status, out: stdout, err: stderr };
}

describe('the process ends with a documented code, whatever the scenario does', () => {
  it.each([
    ['a recovery that never settles', 'recover: () => new Promise(() => {}),', '', /never settles/],
    ['a file that never loads', '', 'await new Promise(() => {});', /never settles/],
    ['process.exit(0)', 'recover: () => process.exit(0),', '', /process\.exit/],
    [
      'a rejection that nobody handles',
      'recover: () => (Promise.reject(new Error("left behind")), new Promise((done) => setTimeout(done, 50, 1))),',
      '',
      /left behind/,
    ],
    [
      'a timer that throws',
      'recover: () => new Promise(() => setTimeout(() => { throw new Error("late") })),',
      '',
      /late/,
    ],
  ] as const)('%s: one line, and 2', (_name, members, before, message) => {
    const { code, out, err } = explore(members, before);
    expect(err).toMatch(message);
    expect(err.trim().split('\n').length).toBe(1);
    expect([code, out]).toEqual([2, '']);
  });

  it('a timer that runs on does not keep it', () => {
    const { code, out } = explore('', 'setInterval(() => {}, 1000);');
    expect(code).toBe(0);
    expect(out).toMatch(/COMPLETE/);
  });
});
