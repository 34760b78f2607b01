import { describe, expect, test } from 'vitest';
import {
  ACTIONS,
  type CommitState,
  decide,
  type PayloadState,
  type Proof,
  ROWS,
  type Row,
  type TempState,
} from '../../src/statefs/recovery-table.ts';

const temps: TempState[] = ['absent', 'broken', 'whole'];
const commits: CommitState[] = ['absent', 'whole', 'contradicts'];
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
  'absent whole':       ['torn-temp',       'temp-lost',     'temp-lost'],
  'absent contradicts': ['-',               '-',             '-'],
  'broken absent':      ['torn-group',      '-',             'group-lost'],
  'broken whole':       ['torn-temp',       'temp-lost',     'temp-lost'],
  'broken contradicts': ['-',               '-',             '-'],
  'whole absent':       ['never-committed', '-',             'commit-lost'],
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
    expect(cells).toHaveLength(3 ** 4);
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
