#!/usr/bin/env node
import { fork } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FileDevice } from '../dist/blockdev/index.js';
import { Sfc32 } from '../dist/core/index.js';
import { open } from '../dist/statefs/index.js';
import { KeyModel, versionOf } from './soak-model.mjs';
import { ServerProcess } from './soak-server.mjs';

const USAGE = `Clients in processes of their own put, read and delete over sockets, while the server is killed with SIGKILL and
started again, over and over, on an image in a file. Then every key is read: what was acknowledged is there, whole, and
nothing older came back.

  npm run soak -- [--seconds 60] [--kills 20] [--clients 8] [--keys 16] [--seed N] [--size MIB] [--pause MS] [--json]

  --seconds N   how long the clients work
  --kills N     at least so many kills, spread over that time
  --pause MS    of a client between two operations, in the mean
  --size MIB    of the image
  --break rollback  put an older image in place once, on purpose: it must be noticed, and the exit code be 1
  --keep        leave the image, the audit and the sockets where they are, and say where

Exit codes: 0 nothing was lost, 1 something was, 2 the soak could not be run.`;

const CLIENT = fileURLToPath(new URL('soak-client.mjs', import.meta.url));
const PROGRESS_EVERY_MS = 5000;
/** The server works at least about so long between two kills, and at most. */
const MIN_UPTIME_MS = 150;
const MAX_UPTIME_MS = 4000;

function readOptions() {
  const number = (name, fallback) => ({ [name]: { type: 'string', default: String(fallback) } });
  const { values } = parseArgs({
    options: {
      ...number('seconds', 60),
      ...number('kills', 20),
      ...number('clients', 8),
      ...number('keys', 16),
      ...number('seed', 1),
      ...number('size', 768),
      ...number('pause', 5),
      break: { type: 'string' },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  for (const [name, minimum] of Object.entries({
    seconds: 1,
    kills: 1,
    clients: 1,
    keys: 1,
    seed: 0,
    size: 1,
    pause: 0,
  })) {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < minimum) {
      throw new Error(`--${name}: expected a whole number of at least ${minimum}, got '${values[name]}'`);
    }
    values[name] = value;
  }
  if (values.break !== undefined && values.break !== 'rollback')
    throw new Error(`--break: expected rollback, got '${values.break}'`);
  return values;
}

function policyText(clientCount) {
  const subjects = Array.from({ length: clientCount }, (_, i) => `"app.${i}"`).join(', ');
  return `version = 1
subjects = [${subjects}]

[[rules]]
subject = "app.{id}"
operations = ["put_atomic", "get", "delete", "list"]
path = "/state/apps/{id}/"
effect = "allow"
`;
}

class Soak {
  #options;
  #folder;
  #server;
  #clients = [];
  #prng;
  #kills = 0;
  #startedMs = 0;

  constructor(options) {
    this.#options = options;
    this.#prng = new Sfc32(options.seed);
    this.#folder = mkdtempSync(join(tmpdir(), 'pc-soak-'));
    const at = (name) => join(this.#folder, name);
    writeFileSync(at('policy.toml'), policyText(options.clients));
    this.#server = new ServerProcess([
      ...['--image', at('state.img'), '--size', `${options.size}M`],
      ...['--sockets', at('s'), '--policy', at('policy.toml'), '--audit', at('audit.jsonl')],
    ]);
  }

  async run() {
    try {
      this.#say(`an image of ${this.#options.size} MiB in ${this.#folder}`);
      await this.#server.start();
      await this.#startClients();
      this.#startedMs = performance.now();
      await this.#killOverAndOver();
      const reports = await this.#stopClients();
      // Once more, so that what is read was recovered.
      await this.#restart();
      const exit = await this.#server.end('SIGTERM');
      if (exit !== 0) throw new Error(`the server ended with ${exit} when it was told to stop`);
      return this.#judge(reports);
    } finally {
      for (const child of this.#clients) child.kill('SIGKILL');
      if (this.#server.isRunning) await this.#server.end('SIGKILL');
      if (!this.#options.keep) rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  /** Resolves once each has had its first answer. */
  async #startClients() {
    const { clients, keys, seed, pause } = this.#options;
    for (let i = 0; i < clients; i++) {
      const socket = join(this.#folder, 's', `app.${i}.sock`);
      const args = [socket, i, keys, seed, pause].map(String);
      this.#clients.push(fork(CLIENT, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
    }
    await Promise.all(this.#clients.map((child) => messageFrom(child, 'started')));
  }

  async #killOverAndOver() {
    const { seconds, kills } = this.#options;
    const endMs = performance.now() + seconds * 1000;
    let toldMs = 0;
    while (this.#kills < kills || performance.now() < endMs) {
      // The time that is left is shared out evenly in the mean, and never at a beat.
      const leftMs = Math.max(0, endMs - performance.now());
      const meanMs = leftMs / (Math.max(0, kills - this.#kills) + 1);
      await sleep(
        Math.max(MIN_UPTIME_MS, Math.min(MAX_UPTIME_MS, meanMs)) * (0.5 + this.#prng.nextU32() / 0xffff_ffff),
      );
      await this.#restart();
      if (performance.now() - toldMs < PROGRESS_EVERY_MS) continue;
      toldMs = performance.now();
      this.#say(`${Math.round((toldMs - this.#startedMs) / 1000)} of ${seconds} s, ${this.#kills} kills`);
    }
  }

  async #restart() {
    await this.#server.end('SIGKILL');
    this.#kills++;
    if (this.#options.break === 'rollback') this.#rollBack();
    await this.#server.start();
  }

  /** Keeps the image of one kill, and puts it in the place of that of a later one. */
  #rollBack() {
    const [image, kept] = ['state.img', 'older.img'].map((name) => join(this.#folder, name));
    const half = Math.ceil(this.#options.kills / 2);
    if (this.#kills === half) copyFileSync(image, kept);
    else if (this.#kills === half + 2) copyFileSync(kept, image);
  }

  async #stopClients() {
    return Promise.all(
      this.#clients.map(async (child) => {
        if (child.exitCode !== null) throw new Error(`a client ended early, with ${child.exitCode}`);
        const report = messageFrom(child, 'report');
        child.send('stop');
        return report;
      }),
    );
  }

  /** Reads every key from the image itself. */
  #judge(reports) {
    const counts = sum(reports.map(({ counts }) => counts));
    const faults = reports.flatMap((report) => report.faults);
    const device = FileDevice.open(join(this.#folder, 'state.img'), { readOnly: true });
    const store = open(device, { readOnly: true });
    let checked = 0;
    for (const { index, models } of reports) {
      for (const [key, one] of models.entries()) {
        const path = `/state/apps/${index}/key-${key}`;
        const found = store.has(path) ? versionOf(index, key, store.get(path)) : 0;
        const fault = KeyModel.from(one).faultOf(found);
        if (fault !== undefined) faults.push({ path, fault, found, ...one });
        checked++;
      }
    }
    const { damage, freeBytes, lastSequence } = store.stats();
    store.close();
    device.close();
    const elapsedSeconds = (performance.now() - this.#startedMs) / 1000;
    return {
      ...counts,
      kills: this.#kills,
      keysChecked: checked,
      damage: damage.length,
      groups: lastSequence,
      freeBytes,
      elapsedSeconds,
      faults,
    };
  }

  #say(text) {
    process.stderr.write(`soak: ${text}\n`);
  }

  get folder() {
    return this.#folder;
  }
}

/** The next message of a type; rejects where the process ends before. */
function messageFrom(child, type) {
  return new Promise((resolve, reject) => {
    const take = (message) => {
      if (message.type !== type) return;
      child.off('message', take);
      child.off('exit', fail);
      resolve(message);
    };
    const fail = (code, signal) => reject(new Error(`a client ended with ${signal ?? code} before it was to`));
    child.on('message', take);
    child.on('exit', fail);
  });
}

function sum(all) {
  const total = {};
  for (const one of all) for (const [name, value] of Object.entries(one)) total[name] = (total[name] ?? 0) + value;
  return total;
}

function render(result, options) {
  const faultCount = (name) => result.faults.filter(({ fault }) => fault === name).length;
  const rows = [
    ['clients, each a process', options.clients],
    ['seconds', result.elapsedSeconds.toFixed(1)],
    ['server killed with SIGKILL and started again', result.kills],
    ['operations', result.operations],
    ['puts acknowledged', result.putsAcked],
    ['deletes acknowledged', result.deletesAcked],
    ['values read and checked', result.reads],
    ['connections lost or refused', result.connectionsLost],
    ['in doubt, then found done', result.doneAfterAll],
    ['in doubt, then found not done', result.notDone],
    ['asked again, and had been done', result.repeated],
    ['refused (nothing changed)', result.refused],
    ['keys checked in the image at the end', result.keysChecked],
    ['damaged places', result.damage],
    ['lost', faultCount('lost')],
    ['torn', faultCount('torn')],
    ['older than acknowledged', faultCount('older')],
    ['came back', faultCount('came back')],
  ].map(([name, value]) => [name, typeof value === 'number' ? value.toLocaleString('en-US') : value]);
  const width = Math.max(...rows.map(([name]) => name.length));
  const numberWidth = Math.max(...rows.map(([, value]) => value.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value.padStart(numberWidth)}`).join('\n');
}

let options;
try {
  options = readOptions();
} catch (error) {
  console.error(`${error.message}\n\n${USAGE}`);
  process.exit(2);
}
if (options.help) {
  console.log(USAGE);
  process.exit(0);
}
const soak = new Soak(options);
try {
  const result = await soak.run();
  const isOk =
    result.faults.length === 0 && result.damage === 0 && result.putsAcked > 0 && result.kills >= options.kills;
  if (options.json) console.log(JSON.stringify({ ok: isOk, ...result }));
  else {
    console.log(render(result, options));
    for (const fault of result.faults.slice(0, 10)) console.log(`VIOLATION: ${JSON.stringify(fault)}`);
    const { seconds, kills, clients, keys, seed, size, pause } = options;
    const again = Object.entries({ seconds, kills, clients, keys, seed, size, pause }).map(
      ([name, value]) => `--${name} ${value}`,
    );
    console.log(
      isOk
        ? 'ok: nothing that was acknowledged is lost'
        : `FAILED: run it again: npm run soak -- ${again.join(' ')} --keep`,
    );
  }
  if (options.keep) console.error(`soak: kept in ${soak.folder}`);
  process.exitCode = isOk ? 0 : 1;
} catch (error) {
  console.error(`soak: ${error.message}`);
  process.exitCode = 2;
}
