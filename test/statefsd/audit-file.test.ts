import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { codeOf, VirtualClock } from '../../src/core/index.ts';
import { Audit, AuditFile, type AuditFileOptions, type AuditRecord } from '../../src/statefsd/index.ts';
import { ENTRY } from './audit-entry.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'powercut-audit-'));
  path = join(folder, 'audit.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function auditTo(options: Partial<AuditFileOptions> = {}): Audit {
  return new Audit({ clock: new VirtualClock(), sinks: [new AuditFile({ path, ...options })] });
}

function sequences(file: string): number[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.map((line) => (JSON.parse(line) as AuditRecord).sequence);
}

describe('an audit file', () => {
  test('has a record a line, for its owner only, and is appended to', () => {
    for (let life = 0; life < 2; life++) {
      const audit = auditTo();
      audit.outcome(ENTRY);
      audit.outcome(ENTRY);
      audit.close();
    }
    expect(sequences(path)).toEqual([1, 2, 1, 2]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('is rotated by size, keeps so many older ones, and loses no line on the way', () => {
    const audit = auditTo({ rotateBytes: 1000, keepFiles: 3 });
    for (let i = 0; i < 40; i++) audit.outcome(ENTRY);
    audit.close();
    expect(readdirSync(folder).sort()).toEqual(['audit.jsonl', ...[1, 2, 3].map((n) => `audit.jsonl.${n}`)]);
    const kept = ['.3', '.2', '.1', ''].flatMap((suffix) => sequences(`${path}${suffix}`));
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, i) => 40 - kept.length + 1 + i));
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).size).toBeLessThanOrEqual(1000);
    expect(audit.stats.sinkFailures).toBe(0);
  });

  test('may keep no older one, and takes a line that is longer than a file', () => {
    // Not one of the sink's: it has no business with it.
    writeFileSync(`${path}.0`, '');
    const audit = auditTo({ rotateBytes: 1, keepFiles: 0 });
    for (let i = 0; i < 3; i++) audit.outcome(ENTRY);
    audit.close();
    expect(readdirSync(folder)).toEqual(['audit.jsonl', 'audit.jsonl.0']);
    expect(sequences(path)).toEqual([3]);
  });

  test('starts a new line after one that a crash cut short', () => {
    writeFileSync(path, '{"sequence":7,"ti');
    const audit = auditTo();
    audit.outcome(ENTRY);
    audit.close();
    const [torn, whole] = readFileSync(path, 'utf8').trimEnd().split('\n');
    expect(torn).toBe('{"sequence":7,"ti');
    expect(JSON.parse(whole as string).sequence).toBe(1);
  });

  test('is made again where somebody removed it for good', () => {
    const audit = auditTo({ rotateBytes: 1, sync: 'each' });
    audit.outcome(ENTRY);
    rmSync(path);
    audit.outcome(ENTRY);
    expect(existsSync(path)).toBe(true);
    expect(sequences(path)).toEqual([2]);
    audit.close();
  });

  test('that was closed takes nothing, and closes once', () => {
    const file = new AuditFile({ path });
    file.close();
    file.close();
    expect(() => file.write({} as AuditRecord, '{}')).toThrow(/was closed/);
  });

  test('is refused with bad options', () => {
    expect(() => new AuditFile({ path: 1 as unknown as string })).toThrow(TypeError);
    expect(() => new AuditFile({ path, rotateBytes: 0 })).toThrow(RangeError);
    expect(() => new AuditFile({ path, keepFiles: -1 })).toThrow(RangeError);
    expect(() => new AuditFile({ path: folder })).toThrow(/EISDIR/);
  });
});

// Skipped: only Linux has /dev/full, a disk without room.
describe.skipIf(!existsSync('/dev/full'))('on a disk without room', () => {
  test('a required file denies the change, another one only counts', () => {
    const required = auditTo({ path: '/dev/full', required: true });
    let code: string | undefined;
    try {
      required.intent(ENTRY);
    } catch (error) {
      code = codeOf(error);
    }
    expect(code).toBe('EPERM');
    const audit = auditTo({ path: '/dev/full' });
    audit.intent(ENTRY);
    audit.outcome(ENTRY);
    expect(audit.stats.sinkFailures).toBe(1);
  });
});
