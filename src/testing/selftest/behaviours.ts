import { equalBytes, Sfc32 } from '../../core/index.ts';
import {
  BOOT_CONTROL_PATH,
  type Connector,
  DEVICE_KEY_PATH,
  type DeviceKey,
  Keystored,
  nextSlot,
  type Signature,
  Updated,
  verifySignature,
} from '../../statefsd/index.ts';
import { atEveryCut, describeTally, failureOf } from './every-cut.ts';
import { Machine, PAYLOAD_BYTES, type SelfTestVariant } from './machine.ts';

/** Something that the stack promises, and how to see it. */
export interface Behaviour {
  /** For messages. */
  readonly name: string;
  readonly marker: string;
  /** @returns what was seen, in words; throws where the promise is not kept, or nothing could be seen */
  observe(variant: SelfTestVariant): Promise<string>;
}

const KEY = '/state/apps/selftest/value';
const OTHER_KEY = '/state/apps/selftest/other';
const OLD = payload(1, 3000);
const NEW = payload(2, 5000);

function payload(seed: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  new Sfc32(seed).fill(bytes);
  return bytes;
}

/** A booted machine on which the application has put its old value. */
async function machineWithOld(variant: SelfTestVariant): Promise<Machine> {
  const machine = Machine.factory(variant);
  await machine.client().putAtomic(KEY, OLD, { purpose: 'selftest' });
  return machine;
}

/** Which of its two values the application finds. @throws Error where it is neither */
async function whichValue(machine: Machine): Promise<'old' | 'new'> {
  const value = await machine.client().get(KEY);
  if (equalBytes(value, OLD)) return 'old';
  if (equalBytes(value, NEW)) return 'new';
  throw new Error(`${KEY}: expected the old or the new value, got ${value.length} other bytes`);
}

/** A put, cut at every point, leaves the old value or the new one; and the new one once it was acknowledged. */
async function observeAtomic(variant: SelfTestVariant): Promise<string> {
  const tally = await atEveryCut(
    await machineWithOld(variant),
    (machine) => machine.client().putAtomic(KEY, NEW, { purpose: 'selftest' }),
    async (machine, isAcknowledged) => {
      const which = await whichValue(machine);
      if (isAcknowledged && which === 'old') throw new Error('a put was acknowledged, and a power cut took it away');
      return which;
    },
  );
  return describeTally(tally, ['old', 'new']);
}

/** Changes the last byte of every frame that is sent: of a put, the end of its payload. */
function damaging(connector: Connector): Connector {
  return (handlers) =>
    connector({
      ...handlers,
      opened: (channel) =>
        handlers.opened({
          write: (frame) => {
            frame[frame.length - 1] = (frame.at(-1) as number) ^ 1;
            channel.write(frame);
          },
          close: () => channel.close(),
        }),
    });
}

/** A put whose payload changed on its way is refused, and the old value stays, over a power cut too. */
async function observeDamagedPut(variant: SelfTestVariant): Promise<string> {
  const machine = await machineWithOld(variant);
  const failure = await failureOf(() => machine.client(undefined, damaging).putAtomic(KEY, NEW));
  if (failure?.code !== 'EINTEGRITY')
    throw new Error(`a damaged put: expected EINTEGRITY, got ${failure?.code ?? 'OK'}`);
  for (const one of [machine, machine.afterCut('all-kept')]) {
    if ((await whichValue(one)) !== 'old') throw new Error('a put was refused, and its value is there');
    one.stop();
  }
  return 'a damaged put was refused and left the old value';
}

/** A value that changed on the disk is never given out, wherever the bit is; what is beside it still is. */
async function observeDamagedDisk(variant: SelfTestVariant): Promise<string> {
  const machine = await machineWithOld(variant);
  await machine.client().putAtomic(OTHER_KEY, NEW);
  machine.stop();
  const sectors = sectorsOf(machine, OLD);
  for (const { sector, offset } of sectors) {
    const damaged = machine.fork();
    flipBit(damaged, sector, offset);
    const rebooted = damaged.afterCut('all-kept');
    const failure = await failureOf(() => rebooted.client().get(KEY));
    if (failure?.code !== 'EINTEGRITY')
      throw new Error(`a damaged value: expected EINTEGRITY, got ${failure?.code ?? 'OK, and wrong bytes'}`);
    // The client verifies too: it has to be the server that refused.
    if (rebooted.audit.recent().at(-1)?.code !== 'EINTEGRITY') throw new Error('the server gave out a damaged value');
    if (!equalBytes(await rebooted.client().get(OTHER_KEY), NEW)) throw new Error('damage reached a value beside it');
    damaged.stop();
    rebooted.stop();
  }
  return `${sectors.length} damaged sectors were each noticed, and the value beside them was read`;
}

/** Where on the disk pieces of `bytes` are: one place in each sector that has one. */
function sectorsOf(machine: Machine, bytes: Uint8Array): { sector: number; offset: number }[] {
  const found: { sector: number; offset: number }[] = [];
  const { disk } = machine;
  const content = Buffer.alloc(disk.sectorBytes);
  const pieces = Array.from({ length: Math.floor(bytes.length / 32) }, (_, i) => bytes.subarray(i * 32, i * 32 + 16));
  for (let sector = 0; sector < disk.sectorCount; sector++) {
    disk.read(sector, content);
    const offset = pieces.map((piece) => content.indexOf(piece)).find((at) => at >= 0);
    if (offset !== undefined) found.push({ sector, offset });
  }
  if (found.length < 2) throw new Error('the value was not found on the disk: nothing is shown');
  return found;
}

function flipBit({ disk }: Machine, sector: number, offset: number): void {
  const content = new Uint8Array(disk.sectorBytes);
  disk.read(sector, content);
  content[offset] = (content[offset] as number) ^ 0x10;
  disk.write(sector, content);
  disk.flush();
}

/** The largest payload is taken; one byte more is refused before anything reaches the disk. */
async function observeOversize(variant: SelfTestVariant): Promise<string> {
  const machine = await machineWithOld(variant);
  const client = machine.client();
  await client.putAtomic(OTHER_KEY, payload(3, PAYLOAD_BYTES));
  const writesBefore = machine.disk.writeCount;
  const failure = await failureOf(() => client.putAtomic(KEY, payload(4, PAYLOAD_BYTES + 1)));
  if (failure?.code !== 'E2BIG')
    throw new Error(`a payload over the budget: expected E2BIG, got ${failure?.code ?? 'OK'}`);
  if (machine.disk.writeCount !== writesBefore) throw new Error('a put was refused, and the disk was written to');
  if ((await whichValue(machine)) !== 'old') throw new Error('a put was refused, and the old value is gone');
  machine.stop();
  return `${PAYLOAD_BYTES} bytes were taken, one more refused without a write`;
}

/** Only the owner of `path` gets at it: another subject neither reads nor writes it. */
async function checkOwned(machine: Machine, path: string): Promise<void> {
  const stranger = machine.client();
  for (const attempt of [() => stranger.get(path), () => stranger.putAtomic(path, OLD)]) {
    const failure = await failureOf(attempt);
    if (failure?.code !== 'EPERM')
      throw new Error(`${path}, by a stranger: expected EPERM, got ${failure?.code ?? 'OK'}`);
  }
}

/** An update is activated and tried; at every cut there is one slot to start, and what was acknowledged stays. */
async function observeUpdated(variant: SelfTestVariant): Promise<string> {
  const machine = Machine.factory(variant);
  const updated = new Updated(machine.port('updated'));
  await updated.open('b');
  await updated.beginUpdate();
  await checkOwned(machine, BOOT_CONTROL_PATH);
  const tally = await atEveryCut(
    machine,
    async (running) => {
      const service = new Updated(running.port('updated'));
      await service.activate(2);
      return service.boot();
    },
    async (after, isAcknowledged) => {
      const service = new Updated(after.port('updated'));
      const state = await service.open();
      const slot = nextSlot(state);
      if (isAcknowledged && (slot !== 'a' || state.a.triesLeft !== 1)) throw new Error('an acknowledged try is lost');
      if ((await service.boot()) !== slot) throw new Error('the slot that is started is not the one that was chosen');
      return `slot ${slot}`;
    },
  );
  return describeTally(tally, ['slot a', 'slot b']);
}

const CHALLENGE = payload(5, 64);

/** The key is rotated; at every cut there is one whole key that signs, the old or the new one. */
async function observeKeystored(variant: SelfTestVariant): Promise<string> {
  const machine = Machine.factory(variant);
  const keystored = (one: Machine) => new Keystored(one.port('keystored'), { generateSeed: () => payload(6, 32) });
  const first = new Keystored(machine.port('keystored'), { generateSeed: () => payload(7, 32) });
  const created = await first.open();
  const signed = await first.sign(CHALLENGE);
  await checkOwned(machine, DEVICE_KEY_PATH);
  const tally = await atEveryCut(
    machine,
    (running) => keystored(running).rotate(),
    async (after, isAcknowledged) => {
      const key = await keystored(after).open();
      checkSignature(key, await keystored(after).sign(CHALLENGE));
      if (isAcknowledged && key.generation !== 2) throw new Error('an acknowledged rotation is lost');
      const root = key.previous?.publicKey ?? key.publicKey;
      if (!equalBytes(root, created.publicKey)) throw new Error('the key does not go back to the one that was created');
      return key.generation === 1 ? 'old key' : 'new key';
    },
  );
  checkSignature(created, signed);
  return describeTally(tally, ['old key', 'new key']);
}

function checkSignature({ publicKey, generation }: DeviceKey, signed: Signature): void {
  if (signed.generation !== generation || !verifySignature(publicKey, CHALLENGE, signed.signature)) {
    throw new Error('a signature is not that of the device key');
  }
}

/** Everything that the self-test shows, in the order in which it is shown. */
export const BEHAVIOURS: readonly Behaviour[] = [
  {
    name: 'hardening',
    marker: 'statefsd: write hardening on (atomic+integrity)',
    observe: async (variant) => `${await observeDamagedPut(variant)}; ${await observeAtomic(variant)}`,
  },
  { name: 'atomic', marker: 'SELFTEST: statefs atomic ok', observe: observeAtomic },
  {
    name: 'integrity',
    marker: 'SELFTEST: statefs integrity deny ok',
    observe: async (variant) => `${await observeDamagedPut(variant)}; ${await observeDamagedDisk(variant)}`,
  },
  { name: 'oversize', marker: 'SELFTEST: statefs oversize deny ok', observe: observeOversize },
  { name: 'updated', marker: 'updated: bootctl persisted (atomic)', observe: observeUpdated },
  { name: 'keystored', marker: 'keystored: device key persisted (atomic)', observe: observeKeystored },
];
