import { invariant } from '../core/index.ts';

/** The temp frames of a group, as found: none; some, but not all whole; all whole. */
export type TempState = 'absent' | 'broken' | 'whole';
/** Its commit: not found; some of its frames; whole; whole, but telling of other operations than the temp frames do. */
export type CommitState = 'absent' | 'broken' | 'whole' | 'contradicts';
/**
 * What shows that the group was durable. `ordered`: its own commit, issued only after a flush of the temp frames.
 * `durable`: the frontier, or a later frame that was issued after a flush of the whole group.
 */
export type Proof = 'none' | 'ordered' | 'durable';
/** The payload, where nothing else proves it: not looked at, as digested, or not. */
export type PayloadState = 'unread' | 'whole' | 'torn';

/** `apply`: the operations took effect. `tail`: the log ends before this group. `damage`: committed, and not readable. */
export type Action = 'apply' | 'apply-damaged' | 'tail' | 'damage-known' | 'damage-unknown';

export type Row =
  | 'committed'
  | 'committed-tail'
  | 'torn-payload'
  | 'never-committed'
  | 'torn-temp'
  | 'torn-group'
  | 'end'
  | 'commit-lost'
  | 'temp-lost'
  | 'group-lost'
  | 'contradiction';

/** The action of each row. */
export const ACTIONS: Readonly<Record<Row, Action>> = {
  committed: 'apply',
  'committed-tail': 'apply',
  'torn-payload': 'tail',
  'never-committed': 'tail',
  'torn-temp': 'tail',
  'torn-group': 'tail',
  end: 'tail',
  'commit-lost': 'apply-damaged',
  'temp-lost': 'damage-known',
  'group-lost': 'damage-unknown',
  contradiction: 'damage-unknown',
};

/** The rows in the order of the documentation. */
export const ROWS: readonly Row[] = Object.keys(ACTIONS) as Row[];

/**
 * What recovery does with the group at the place where the log goes on.
 *
 * | temp | commit | proof | payload | row | action |
 * |---|---|---|---|---|---|
 * | whole | whole | ordered or durable | unread | committed | apply |
 * | whole | whole | none | whole | committed-tail | apply |
 * | whole | whole | none | torn | torn-payload | tail |
 * | whole | absent or broken | none | - | never-committed | tail |
 * | absent or broken | whole | none | - | torn-temp | tail |
 * | broken | absent or broken | none | - | torn-group | tail |
 * | absent | broken | none | - | torn-group | tail |
 * | absent | absent | none | - | end | tail |
 * | whole | absent or broken | durable | - | commit-lost | apply, report |
 * | absent or broken | whole | ordered or durable | - | temp-lost | apply what is whole, report the other keys |
 * | absent or broken | absent or broken | durable | - | group-lost | the same; keys unknown |
 * | whole | contradicts | any | - | contradiction | report, keys unknown |
 * | any | absent or broken | ordered | - | impossible: only a whole commit proves `ordered` | - |
 * | absent or broken | contradicts | any | - | impossible: there is nothing to contradict | - |
 */
export function decide(temp: TempState, commit: CommitState, proof: Proof, payload: PayloadState): Row {
  const isCommitted = commit === 'whole' || commit === 'contradicts';
  invariant(isCommitted || proof !== 'ordered', 'an ordered proof without a commit');
  invariant(commit !== 'contradicts' || temp === 'whole', 'a commit contradicts temp frames that are not there');
  if (commit === 'contradicts') return 'contradiction';
  if (temp === 'whole' && commit === 'whole') return proof !== 'none' ? 'committed' : rowOfPayload(payload);
  if (temp === 'whole') return proof === 'none' ? 'never-committed' : 'commit-lost';
  if (commit === 'whole') return proof === 'none' ? 'torn-temp' : 'temp-lost';
  if (proof !== 'none') return 'group-lost';
  return temp === 'absent' && commit === 'absent' ? 'end' : 'torn-group';
}

function rowOfPayload(payload: PayloadState): Row {
  invariant(payload !== 'unread', 'an unproven commit was judged before its payload was read');
  return payload === 'whole' ? 'committed-tail' : 'torn-payload';
}
