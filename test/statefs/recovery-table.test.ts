import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  ACTIONS,
  type Action,
  type CommitState,
  decide,
  type PayloadState,
  type Proof,
  ROWS,
  type Row,
  type TempState,
} from '../../src/statefs/recovery-table.ts';

const temps: TempState[] = ['absent', 'broken', 'whole'];
const commits: CommitState[] = ['absent', 'broken', 'whole', 'contradicts'];
const proofs: Proof[] = ['none', 'ordered', 'durable'];
const payloads: PayloadState[] = ['unread', 'whole', 'torn'];

/**
 * Every cell, by temp and commit, then by proof. What the payload decides is given as a row for each of its states;
 * `-` must not come up.
 */
const UNPROVEN = { unread: '-', whole: 'committed-tail', torn: 'torn-payload' } as const;
// biome-ignore format: a table, column under column
const TABLE: Readonly<Record<`${TempState} ${CommitState}`, readonly (Row | '-' | typeof UNPROVEN)[]>> = {
  //                     none               ordered          durable
  'absent absent':      ['end',             '-',             'group-lost'],
  'absent broken':      ['torn-group',      '-',             'group-lost'],
  'absent whole':       ['torn-temp',       'temp-lost',     'temp-lost'],
  'absent contradicts': ['-',               '-',             '-'],
  'broken absent':      ['torn-group',      '-',             'group-lost'],
  'broken broken':      ['torn-group',      '-',             'group-lost'],
  'broken whole':       ['torn-temp',       'temp-lost',     'temp-lost'],
  'broken contradicts': ['-',               '-',             '-'],
  'whole absent':       ['never-committed', '-',             'commit-lost'],
  'whole broken':       ['never-committed', '-',             'commit-lost'],
  'whole whole':        [UNPROVEN,          'committed',     'committed'],
  'whole contradicts':  ['contradiction',   'contradiction', 'contradiction'],
};

const cells = temps.flatMap((temp) =>
  commits.flatMap((commit) =>
    proofs.flatMap((proof, column) =>
      payloads.map((payload) => {
        const cell = TABLE[`${temp} ${commit}`][column];
        const row = typeof cell === 'object' ? cell[payload] : cell;
        return { temp, commit, proof, payload, row };
      }),
    ),
  ),
);

describe('the recovery table', () => {
  test.each(cells)('$temp temp, $commit commit, proof $proof, payload $payload: $row', (cell) => {
    const { temp, commit, proof, payload, row } = cell;
    if (row === '-') expect(() => decide(temp, commit, proof, payload)).toThrow(/powercut defect/);
    else expect(decide(temp, commit, proof, payload)).toBe(row);
  });

  test('has no row that no cell leads to, and every row has its action', () => {
    expect(cells).toHaveLength(4 * 3 ** 3);
    const reached = new Set(cells.map(({ row }) => row).filter((row) => row !== '-'));
    expect([...reached].sort()).toEqual([...ROWS].sort());
    expect(ACTIONS).toEqual({
      committed: 'apply',
      'committed-tail': 'apply',
      'commit-lost': 'apply-damaged',
      'torn-payload': 'tail',
      'never-committed': 'tail',
      'torn-temp': 'tail',
      'torn-group': 'tail',
      end: 'tail',
      'temp-lost': 'damage-known',
      'group-lost': 'damage-unknown',
      contradiction: 'damage-unknown',
    });
  });

  test('stands in docs/storage/statefs.md, cell by cell', () => {
    const doc = readFileSync(new URL('../../docs/storage/statefs.md', import.meta.url), 'utf8');
    const says: Readonly<Record<Action, string>> = {
      apply: 'apply it',
      tail: 'the log ends here',
      'apply-damaged': 'apply it, report damage',
      'damage-known': 'report the keys: their values are lost; deletes take effect',
      'damage-unknown': 'report it: the keys are unknown',
    };
    const table = doc.split('| temp frames | commit | proof | payload | row | what recovery does |')[1] as string;
    const documented = new Map<string, string>();
    for (const line of (table.split('\n\n')[0] as string).split('\n').slice(2)) {
      const [, temp = '', commit = '', proof = '', payload = '', row = '', action = ''] = line
        .split('|')
        .map((c) => c.trim());
      const name = row.replaceAll('`', '');
      if (name !== 'impossible') expect(action, name).toBe(says[ACTIONS[name as Row]]);
      for (const [t, c, p] of product(
        alternatives(temp, temps),
        alternatives(commit, commits),
        alternatives(proof, proofs),
      )) {
        const paid = payload === 'whole' || payload === 'torn' ? [payload] : payloads;
        for (const one of paid) {
          const key = `${t} ${c} ${p} ${one}`;
          if (!documented.has(key)) documented.set(key, name === 'impossible' ? '-' : name);
        }
      }
    }
    for (const { temp, commit, proof, payload, row } of cells) {
      const key = `${temp} ${commit} ${proof} ${payload}`;
      // What comes up only once the payload was read has no other cell.
      expect(documented.get(key) ?? '-', key).toBe(row);
    }
  });

  function alternatives<T extends string>(text: string, all: readonly T[]): readonly string[] {
    return text === 'any' ? all : text.split(' or ');
  }

  function product(...[a, b, c]: readonly (readonly string[])[]): string[][] {
    return (a ?? []).flatMap((x) => (b ?? []).flatMap((y) => (c ?? []).map((z) => [x, y, z])));
  }

  test('never ends the log at what is proven, nor reports damage without proof, contradictions apart', () => {
    for (const { temp, commit, proof, row } of cells) {
      if (row === '-' || row === undefined || commit === 'contradicts') continue;
      const isTail = ACTIONS[row] === 'tail';
      const isDamage = ACTIONS[row] !== 'apply' && !isTail;
      expect(isTail && proof !== 'none', `${temp} ${commit} ${proof}`).toBe(false);
      expect(isDamage && proof === 'none', `${temp} ${commit} ${proof}`).toBe(false);
    }
  });
});
