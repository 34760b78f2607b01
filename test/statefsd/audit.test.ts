import { describe, expect, test } from 'vitest';
import { codeOf, VirtualClock } from '../../src/core/index.ts';
import { AUDIT_FIELDS, Audit, type AuditEntry, type AuditRecord, type AuditSink } from '../../src/statefsd/index.ts';
import { ENTRY } from './audit-entry.ts';

const entry = (over: Partial<AuditEntry> = {}): AuditEntry => ({ ...ENTRY, ...over });

class ListSink implements AuditSink {
  readonly name = 'list';
  readonly required: boolean;
  readonly lines: string[] = [];
  failing = false;
  closed = 0;

  constructor(required = false) {
    this.required = required;
  }

  write(_record: AuditRecord, line: string): void {
    if (this.failing) throw new Error('the list is full');
    this.lines.push(line);
  }

  close(): void {
    this.closed++;
    if (this.failing) throw new Error('the list does not close');
  }
}

const clock = () => new VirtualClock(1_700_000_000_000);

describe('an audit record', () => {
  test('has these fields, in this order: they are a contract', () => {
    const audit = new Audit({ clock: clock() });
    audit.outcome(entry());
    const [record] = audit.recent();
    expect(Object.keys(record as object)).toEqual([...AUDIT_FIELDS]);
    expect(record).toMatchInlineSnapshot(`
      {
        "code": "OK",
        "decision": "allow",
        "digest": "abababababababababababababababababababababababababababababababab",
        "duration": 3,
        "event": "outcome",
        "operation": "put_atomic",
        "path": "/state/boot/bootctl",
        "sequence": 1,
        "size": 16,
        "subject": "updated",
        "time": 1700000000000,
      }
    `);
  });

  test('takes nothing beside them from what it is handed', () => {
    const sink = new ListSink();
    const audit = new Audit({ clock: clock(), sinks: [sink] });
    const loose = { ...entry(), payload: 'S3CRET', value: 'S3CRET', message: 'S3CRET' };
    audit.outcome(loose);
    audit.intent(loose);
    expect(JSON.stringify([audit.recent(), sink.lines])).not.toContain('S3CRET');
  });

  test('of a key in the key store has no digest', () => {
    const audit = new Audit({ clock: clock() });
    audit.outcome(entry({ path: '/state/keystore/device.key' }));
    audit.outcome(entry({ path: '/state/pins/1' }));
    expect(audit.recent().map(({ digest }) => digest.length)).toEqual([0, 64]);
    const strict = new Audit({ clock: clock(), confidential: ['/state/pins/'] });
    strict.outcome(entry({ path: '/state/pins/1' }));
    expect(strict.recent()[0]?.digest).toBe('');
  });

  test('is numbered and timed by the clock', () => {
    const time = clock();
    const audit = new Audit({ clock: time });
    audit.outcome(entry());
    time.advance(5);
    audit.tell('policy', 'reload', 'EINVAL', '/etc/policy.toml');
    audit.tell('server', 'stop', 'OK');
    expect(audit.recent().map(({ sequence, time, event, decision }) => [sequence, time, event, decision])).toEqual([
      [1, 1_700_000_000_000, 'outcome', 'allow'],
      [2, 1_700_000_000_005, 'policy', 'none'],
      [3, 1_700_000_000_005, 'server', 'none'],
    ]);
  });
});

describe('the ring', () => {
  test('forgets the oldest, and counts it', () => {
    const audit = new Audit({ clock: clock(), ringRecords: 4 });
    expect(audit.stats).toEqual({ recorded: 0, dropped: 0, sinkFailures: 0 });
    expect(audit.recent()).toEqual([]);
    for (let i = 0; i < 10; i++) audit.outcome(entry());
    expect(audit.recent().map(({ sequence }) => sequence)).toEqual([7, 8, 9, 10]);
    expect(audit.recent(2).map(({ sequence }) => sequence)).toEqual([9, 10]);
    expect(audit.stats).toEqual({ recorded: 10, dropped: 6, sinkFailures: 0 });
  });

  test('has a size', () => {
    expect(() => new Audit({ clock: clock(), ringRecords: 0 })).toThrow(RangeError);
    expect(() => new Audit({ clock: clock(), ringRecords: '4' as unknown as number })).toThrow(TypeError);
  });
});

describe('a sink', () => {
  test('that fails is counted, and hinders nothing', () => {
    const [bad, good] = [new ListSink(), new ListSink()];
    bad.failing = true;
    const audit = new Audit({ clock: clock(), sinks: [bad, good] });
    audit.intent(entry());
    audit.outcome(entry());
    expect(good.lines).toHaveLength(1);
    expect(audit.stats.sinkFailures).toBe(1);
    audit.close();
    expect([bad.closed, good.closed]).toEqual([1, 1]);
    expect(audit.stats.sinkFailures).toBe(2);
  });

  test('that is required has the intent before the change, and denies it by failing', () => {
    const sink = new ListSink(true);
    const audit = new Audit({ clock: clock(), sinks: [new ListSink(), sink] });
    expect(audit.isRequired).toBe(true);
    audit.intent(entry({ code: '', duration: 0 }));
    expect(sink.lines.map((line) => JSON.parse(line).event)).toEqual(['intent']);
    sink.failing = true;
    let thrown: unknown;
    try {
      audit.intent(entry());
    } catch (error) {
      thrown = error;
    }
    expect(codeOf(thrown)).toBe('EPERM');
    expect((thrown as Error).message).toBe(
      'denied: the required audit sink list did not take the record: the list is full',
    );
    // What has happened has happened: an outcome can't be denied any more.
    expect(() => audit.outcome(entry())).not.toThrow();
  });
});
