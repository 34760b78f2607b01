import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { StateImage } from '../../src/cli/state-image.ts';
import { type Control, runStatefsd, type StatefsdFlags } from '../../src/cli/statefsd-server.ts';
import { DeviceError, systemClock } from '../../src/core/index.ts';
import { AUDIT_FIELDS, StateFsClient, unixSocket } from '../../src/statefsd/index.ts';
import { FailingDevice } from '../statefs/helpers.ts';
import { formattedDevice } from '../statefsd/helpers.ts';
import { run } from './helpers.ts';

const POLICY = `version = 1
subjects = ["app.a", "root"]

[[rules]]
subject = "app.{id}"
operations = ["put_atomic", "get", "delete", "list"]
path = "/state/apps/{id}/"
effect = "allow"

[[rules]]
subject = "root"
operations = ["reopen"]
path = "/state/"
effect = "allow"
`;

let folder = '';
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pc-'));
  writeFileSync(at('policy.toml'), POLICY);
});

afterEach(() => rmSync(folder, { recursive: true }));

/** The signals by hand. */
class Hand implements Control {
  readonly #runs = new Map<string, (name: string) => void>();

  on(signal: 'stop' | 'reload', run: (name: string) => void): () => void {
    this.#runs.set(signal, run);
    return () => void this.#runs.delete(signal);
  }

  give(signal: 'stop' | 'reload'): void {
    this.#runs.get(signal)?.(signal === 'stop' ? 'SIGTERM' : 'SIGHUP');
  }

  get isHeld(): boolean {
    return this.#runs.size > 0;
  }
}

/** A server in this process, and what it said. */
class Started {
  readonly hand = new Hand();
  readonly exit: Promise<number>;
  out = '';
  err = '';

  constructor(flags: Partial<StatefsdFlags> = {}, openImage?: (path: string, sizeBytes: number) => StateImage) {
    const all: StatefsdFlags = {
      ...{ image: at('state.img'), sockets: at('s'), policy: at('policy.toml'), audit: at('audit.jsonl') },
      ...{ size: 4 * 1024 * 1024, commit: 'checksummed', payload: 1024, slow: 1000, ...flags },
    };
    const output = {
      out: (text: string) => {
        this.out += text;
      },
      err: (text: string) => {
        this.err += text;
      },
      ...{ isTerminal: false, useColour: false, clock: systemClock },
    };
    this.exit = runStatefsd(all, output, this.hand, openImage);
  }

  /** Resolves once it says that it serves. */
  async ready(): Promise<this> {
    while (this.out === '') await new Promise((resolve) => setTimeout(resolve, 5));
    return this;
  }

  async said(what: RegExp): Promise<void> {
    while (!what.test(this.err)) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  async stop(): Promise<number> {
    this.hand.give('stop');
    return this.exit;
  }
}

function clientOf(subject: string): StateFsClient {
  return new StateFsClient({ connect: unixSocket(at(`s/${subject}.sock`)), timeoutMs: 10_000 });
}

test('it makes the image on first use, serves, closes cleanly, and finds everything again', async () => {
  const first = await new Started().ready();
  expect(first.out).toMatch(/serving .*state\.img, made just now: 0 keys, 2\.0 MiB free/);
  expect(first.out).toMatch(/2 sockets in .*: app\.a, root/);
  const client = clientOf('app.a');
  await client.putAtomic('/state/apps/a/x', new Uint8Array([1, 2, 3]));
  client.close();
  expect(await first.stop()).toBe(0);
  expect(statSync(at('state.img')).mode & 0o777).toBe(0o600);
  expect(readdirSync(at('.')).filter((name) => name.includes('.part'))).toEqual([]);
  expect(existsSync(at('s/app.a.sock'))).toBe(false);

  const second = await new Started().ready();
  expect(second.out).toMatch(/serving .*state\.img: 1 key,/);
  const again = clientOf('app.a');
  expect(await again.get('/state/apps/a/x')).toEqual(new Uint8Array([1, 2, 3]));
  again.close();
  expect(await second.stop()).toBe(0);
});

test('a signal that comes while it starts, or just as it says that it serves, stops it cleanly', async () => {
  const early = new Started();
  expect(early.hand.isHeld).toBe(true);
  expect(await early.stop()).toBe(0);
  expect(early.hand.isHeld).toBe(false);
  expect(existsSync(at('s/app.a.sock'))).toBe(false);
  const prompt = await new Started().ready();
  expect(await prompt.stop()).toBe(0);
});

test('the audit has start, requests and stop, with the fields that are documented', async () => {
  const server = await new Started().ready();
  const client = clientOf('app.a');
  await client.putAtomic('/state/apps/a/x', new Uint8Array([1]));
  await expect(client.get('/state/boot/slot')).rejects.toMatchObject({ code: 'EPERM' });
  client.close();
  await server.stop();
  const records = readFileSync(at('audit.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(records.map(({ event, operation, code }) => `${event} ${operation} ${code}`)).toEqual([
    'server start OK',
    'outcome put_atomic OK',
    'outcome get EPERM',
    'server stop OK',
  ]);
  for (const record of records) expect(Object.keys(record)).toEqual(AUDIT_FIELDS);
});

test('a reload puts another policy in force, with its sockets; an invalid one leaves the old in force and says so', async () => {
  const server = await new Started().ready();
  const client = clientOf('app.a');
  await client.putAtomic('/state/apps/a/x', new Uint8Array([1]));
  writeFileSync(at('policy.toml'), POLICY.replace('effect = "allow"', 'effect = "maybe"'));
  server.hand.give('reload');
  await server.said(/policy: refused, the old one stays in force: .*policy\.toml:8: .*effect/);
  expect(await client.get('/state/apps/a/x')).toEqual(new Uint8Array([1]));
  writeFileSync(
    at('policy.toml'),
    POLICY.replace('"app.a", "root"', '"app.a", "app.new"').split('[[rules]]').slice(0, 2).join('[[rules]]'),
  );
  server.hand.give('reload');
  await server.said(/policy: in force: 1 rules, 2 subjects/);
  const fresh = clientOf('app.new');
  await fresh.putAtomic('/state/apps/new/x', new Uint8Array([1]));
  expect(existsSync(at('s/root.sock'))).toBe(false);
  fresh.close();
  client.close();
  expect(await server.stop()).toBe(0);
});

test('without a policy it serves the baseline, and has nothing to reload', async () => {
  const server = await new Started({ policy: undefined } as never).ready();
  expect(server.out).toMatch(/2 sockets in .*: updated, keystored/);
  server.hand.give('reload');
  await server.said(/there is no file to read anew: start with --policy/);
  const client = clientOf('updated');
  await client.putAtomic('/state/boot/slot', new Uint8Array([1]));
  client.close();
  expect(await server.stop()).toBe(0);
});

test('budgets of the command line hold where the policy has none', async () => {
  const server = await new Started().ready();
  const client = clientOf('app.a');
  await expect(client.putAtomic('/state/apps/a/x', new Uint8Array(1025))).rejects.toMatchObject({ code: 'E2BIG' });
  client.close();
  await server.stop();
});

test('reopen works only where it was started for tests', async () => {
  const closed = await new Started().ready();
  const first = clientOf('root');
  await expect(first.reopen()).rejects.toMatchObject({ code: 'EPERM' });
  first.close();
  await closed.stop();
  const server = await new Started({ forTests: true }).ready();
  const [root, a] = [clientOf('root'), clientOf('app.a')];
  await a.putAtomic('/state/apps/a/x', new Uint8Array([7]));
  expect((await root.reopen()).keys).toBe(1);
  expect(await a.get('/state/apps/a/x')).toEqual(new Uint8Array([7]));
  root.close();
  a.close();
  expect(await server.stop()).toBe(0);
});

test('events are lines of JSON where that is asked for, the first one when it serves', async () => {
  const server = await new Started({ json: true }).ready();
  await server.stop();
  const lines = server.out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines[0]).toMatchObject({ event: 'ready', isNew: true, subjects: ['app.a', 'root'], keys: 0, damage: 0 });
  expect(lines.at(-1)).toEqual({ event: 'stopping', message: 'SIGTERM' });
  expect(server.err).toBe('');
});

test('what keeps it from starting is one line and exit code 2, and leaves nothing behind', async () => {
  const server = await new Started().ready();
  const refused = async (flags: Partial<StatefsdFlags>): Promise<string> => {
    const other = new Started(flags);
    expect(await other.exit).toBe(2);
    expect(other.out).toBe('');
    expect(other.err.trim().split('\n').length).toBe(1);
    return other.err;
  };
  // The image is in use; so are the sockets; there is no such policy; an image of no use; a size of no use.
  expect(await refused({ sockets: at('other') })).toMatch(/state\.img: the image is open elsewhere/);
  expect(await refused({ image: at('other.img'), audit: at('other.jsonl') })).toMatch(/another server listens there/);
  expect(await refused({ policy: at('none.toml') })).toMatch(/none\.toml: can't be read/);
  for (const image of ['state.img', 'fresh.img']) {
    expect(await refused({ image: at(image), audit: at(image) })).toMatch(/--audit: .* is the image/);
  }
  expect(existsSync(at('fresh.img'))).toBe(false);
  writeFileSync(at('text.img'), 'x'.repeat(8192));
  expect(await refused({ image: at('text.img'), sockets: at('t') })).toMatch(/powercut statefsd: /);
  expect(await refused({ image: at('small.img'), sockets: at('t'), size: 4096 })).toMatch(/powercut statefsd: /);
  expect(readdirSync(at('.')).filter((name) => name.startsWith('small.img'))).toEqual([]);
  const client = clientOf('app.a');
  await client.putAtomic('/state/apps/a/x', new Uint8Array([1]));
  client.close();
  expect(await server.stop()).toBe(0);
});

test('a disk that fails in a commit ends it with exit code 1; started again, it serves what the disk holds', async () => {
  const device = new FailingDevice(formattedDevice());
  const server = await new Started({}, () => ({ device, isNew: false })).ready();
  const client = clientOf('app.a');
  await client.putAtomic('/state/apps/a/x', new Uint8Array([1]));
  device.before = (kind) => {
    if (kind === 'flush') throw new DeviceError('EIO', 'the medium failed');
  };
  const put = client.putAtomic('/state/apps/a/x', new Uint8Array([2]));
  await expect(put).rejects.toMatchObject({ code: 'EIO', inDoubt: true });
  expect(await server.exit).toBe(1);
  expect(server.err).toMatch(/latched: .*the medium failed: stopping, so that a restart can find out/);
  device.before = () => {};
  const again = await new Started({}, () => ({ device, isNew: false })).ready();
  expect([1, 2]).toContain((await client.get('/state/apps/a/x'))[0]);
  client.close();
  expect(await again.stop()).toBe(0);
});

test('its options are checked, and its help has examples', async () => {
  expect((await run('statefsd')).code).toBe(2);
  expect((await run('statefsd', '--image', 'a.img')).err).toMatch(/--sockets/);
  expect((await run('statefsd', '--image', 'a', '--sockets', 's', '--size', 'much')).code).toBe(2);
  expect((await run('statefsd', '--help')).out).toMatch(/Examples:\n {2}powercut statefsd --image state\.img/);
});
