import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { exploreAsync, type Scenario } from '../../src/explore/index.ts';
import { externalCheck, FLAG, type NbdClient, TraceFile, TraceWriter, traceScenario } from '../../src/serve/index.ts';
import { pattern, type Serving, serving, temporaryFolder } from './harness.ts';

interface Recorded {
  readonly world: Serving;
  readonly client: NbdClient;
  readonly trace: TraceWriter;
  readonly path: string;
}

async function recording(): Promise<Recorded> {
  const world = await serving({ sectorCount: 256 });
  const client = await world.connect();
  await client.write(0, pattern(1024, 1));
  const path = join(temporaryFolder(), 'run.trace');
  const trace = new TraceWriter(world.disk, path);
  onTestFinished(() => trace.close());
  return { world, client, trace, path };
}

/** Counts up in sector 0; `flushes` where it does so soundly. */
async function count({ client, trace }: Recorded, flushes: boolean): Promise<void> {
  for (let value = 1; value <= 3; value++) {
    trace.mark('begin', `count to ${value}`);
    await client.write(0, new Uint8Array(512).fill(value));
    await client.write(512 * (10 + value), pattern(512, value));
    if (flushes) await client.flush();
    trace.mark('acknowledge', `count to ${value}`);
  }
}

/** The scenario of docs/serve.md, as it stands there. */
function documentedScenario(path: string): Scenario<string, number> {
  const page = readFileSync(new URL('../../docs/serve.md', import.meta.url), 'utf8');
  const code = /<!-- test: this scenario[^\n]*\n```ts\n([\s\S]*?)```/.exec(page)?.[1] as string;
  const script = code
    .replace(/^import .*$/m, '')
    .replace('traceScenario<number>', 'traceScenario')
    .replace("'run.trace'", JSON.stringify(path))
    .replace('sector[0]!', 'sector[0]')
    .replace('export const scenario =', 'return');
  return new Function('traceScenario', script)(traceScenario) as Scenario<string, number>;
}

describe('a recorded workload', () => {
  test('that flushes before it acknowledges survives every cut', async () => {
    const recorded = await recording();
    await count(recorded, true);
    recorded.trace.close();
    const result = await exploreAsync(documentedScenario(recorded.path));
    expect(result).toMatchObject({ complete: true, violations: [] });
    expect(result.crashPoints).toBeGreaterThan(3);
  });

  test('that does not is found out, and says at which acknowledgement', async () => {
    const recorded = await recording();
    await count(recorded, false);
    recorded.trace.close();
    const result = await exploreAsync(documentedScenario(recorded.path));
    expect(result.violations.length).toBeGreaterThan(0);
    expect(result.violations[0]?.message).toMatch(/was acknowledged, and the disk says/);
  });

  test('begins with what was durable, and has every operation, acknowledgement and cut', async () => {
    const { client, trace, path, world } = await recording();
    await client.write(1024, pattern(512, 2), FLAG.fua);
    await client.writeZeroes(2048, 512);
    await client.trim(2560, 512);
    await client.flush();
    world.disk.cut();
    trace.close();
    const file = new TraceFile(path);
    expect(file.header).toEqual({ powercutTrace: 1, sectorBytes: 512, sectorCount: 256, profile: 'nvme-512' });
    const lines = [...file.lines()];
    const base = lines.shift();
    expect(base).toEqual({ kind: 'base', sector: 0, data: Buffer.from(pattern(1024, 1)).toString('base64') });
    expect(lines.map(({ kind }) => kind)).toEqual([
      'write',
      'acknowledge',
      'writeZeroes',
      'acknowledge',
      'discard',
      'acknowledge',
      'flush',
      'acknowledge',
      'cut',
      'end',
    ]);
    expect(lines[0]).toMatchObject({ sector: 2, fua: true });
    const acknowledged = lines
      .filter(({ kind }) => kind === 'acknowledge')
      .map((line) => ('operation' in line ? line.operation : 0));
    const carriedOut = lines.filter((line) => 'operation' in line && line.kind !== 'acknowledge');
    expect(carriedOut.map((line) => ('operation' in line ? line.operation : 0))).toEqual(acknowledged);
  });

  test('ends at the cut that happened while it was recorded; requests can be asked for', async () => {
    const { client, trace, path, world } = await recording();
    await client.write(0, pattern(512, 2));
    await client.flush();
    world.disk.scheduleCut({ of: 'write' });
    await expect(client.write(512, pattern(512, 3))).rejects.toThrow();
    world.disk.resolve('all-kept');
    world.disk.powerOn();
    await (await world.connect()).write(0, pattern(512, 9));
    trace.close();
    const events: string[] = [];
    const scenario = traceScenario<string>(path, {
      requests: true,
      recover: () => 'recovered',
      invariant: (_found, history) => {
        const told = history.events.flatMap((event) => ('op' in event ? [`${event.kind} ${event.op}`] : []));
        if (told.length > events.length) events.splice(0, events.length, ...told);
      },
    });
    expect((await exploreAsync(scenario)).complete).toBe(true);
    const numbers = events.map((event) => event.replace(/\d+/, '#'));
    expect(numbers).toEqual([
      'begin write #',
      'acknowledge write #',
      'begin flush #',
      'acknowledge flush #',
      'begin write #',
    ]);
  });

  test('is judged by a program, image by image', async () => {
    const recorded = await recording();
    await count(recorded, false);
    recorded.trace.close();
    const judge = (program: string): Scenario<string, string> =>
      traceScenario(recorded.path, { recover: externalCheck(['sh', '-c', program, '{image}']) });
    const options = { strategy: 'random', runs: 2, seed: 1, depth: 1 } as const;
    // The byte was 1, and is 3 in the end: a program that wants it to stay finds fault, and names no file of this run.
    const stays = `test "$(head -c 1 "$0" | od -An -tu1 | tr -d ' ')" = 1 || { echo "changed in $0"; exit 1; }`;
    const result = await exploreAsync(judge(stays), options);
    expect(result.violations[0]?.message).toMatch(/changed in \{image\}$/);
    expect((await exploreAsync(judge('test -s "$0"'), options)).violations).toEqual([]);
  });
});

describe('a trace file', () => {
  test('is not made over another, nor twice at once', async () => {
    const { world, path, trace } = await recording();
    expect(() => new TraceWriter(world.disk, join(temporaryFolder(), 'b'))).toThrow(/recorded already/);
    trace.close();
    expect(() => new TraceWriter(world.disk, path)).toThrow(/does not exist/);
    expect(world.disk.observed).toBe(false);
  });

  test('whose last line was cut short, by a server that was killed, is read up to there', async () => {
    const { client, path, trace } = await recording();
    await client.write(0, pattern(512, 2));
    trace.close();
    const whole = [...new TraceFile(path).lines()].length;
    appendFileSync(path, '{"kind":"wri');
    expect([...new TraceFile(path).lines()].length).toBe(whole);
  });

  test.each([
    ['', /empty file/],
    ['{"powercutTrace":2}\n', /newer/],
    ['hello\n', /line 1/],
    ['{"powercutTrace":1,"sectorBytes":100,"sectorCount":1}\n', /sectorBytes/],
    ['{"powercutTrace":1,"sectorBytes":512,"sectorCount":-1}\n', /sectorCount/],
  ])('%j is none', (text, message) => {
    const path = join(temporaryFolder(), 'bad.trace');
    writeFileSync(path, text);
    expect(() => new TraceFile(path)).toThrow(message);
  });

  test.each([
    ['{"kind":"jump"}', /line 2: kind/],
    ['{"kind":"write","operation":1,"sector":"a"}', /line 2: sector/],
    ['{"kind":"mark","mark":"middle","name":"x"}', /line 2: mark/],
    ['[]', /line 2/],
  ])('with the line %s is refused, with the number of the line', (line, message) => {
    const path = join(temporaryFolder(), 'bad.trace');
    writeFileSync(path, `{"powercutTrace":1,"sectorBytes":512,"sectorCount":64,"profile":"none"}\n${line}\n`);
    expect(() => [...new TraceFile(path).lines()]).toThrow(message);
  });

  test('with marks that make no sense, or for a disk of other sectors, is refused', async () => {
    const path = join(temporaryFolder(), 'bad.trace');
    const header = '{"powercutTrace":1,"sectorBytes":512,"sectorCount":64,"profile":"none"}\n';
    writeFileSync(path, `${header}{"kind":"mark","mark":"acknowledge","name":"x"}\n`);
    const scenario = traceScenario(path, { recover: () => 1 });
    await expect(exploreAsync(scenario)).rejects.toThrow(/has not begun/);
    await expect(exploreAsync(scenario, { profile: '4kn' })).rejects.toThrow(/another profile/);
  });
});
