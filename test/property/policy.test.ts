import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AbiFilter, Authority, deriveFilter, type Policy } from '../../src/statefsd/index.ts';
import { policies, type Request, reference, requests, SUBJECTS } from './policy-world.ts';
import { holdProperty, isCaught, isReplaying } from './replay.ts';

const FILE = 'test/property/policy.test.ts';
const POLICIES = 1000;
const REQUESTS = 1000;

/** One of the two parties, for a policy. */
type Decider = (policy: Policy) => (request: Request) => boolean;

const authority: Decider = (policy) => {
  const decides = new Authority(policy);
  return ({ subject, operation, path }) => decides.decide(subject, operation, path).allowed;
};

/** As a client has them: derived, sent as text, and read. */
const filters: Decider = (policy) => {
  const bySubject = new Map(
    SUBJECTS.map((subject) => [subject, AbiFilter.parse(deriveFilter(policy, subject).serialize())]),
  );
  return ({ subject, operation, path }) => bySubject.get(subject)?.allows(operation, path) ?? false;
};

const totals = { allowed: 0, denied: 0 };

/** Both parties, and what the documentation says, agree on every request; so a filter never allows what is denied. */
function agreement(filterOf: Decider, authorityOf: Decider = authority): fc.IProperty<[Policy, number]> {
  return fc.property(policies, fc.nat(), (policy, seed) => {
    const [decide, again, allows] = [authorityOf(policy), authorityOf(policy), filterOf(policy)];
    for (const request of requests(seed, REQUESTS)) {
      const allowed = decide(request);
      const wanted = reference(policy, request);
      const said = `${request.subject} ${request.operation} ${JSON.stringify(request.path)}`;
      if (allowed !== wanted) throw new Error(`${said}: the policy says ${wanted}, the authority ${allowed}`);
      if (allowed !== again(request)) throw new Error(`${said}: the authority decides otherwise the second time`);
      const passes = allows(request);
      if (passes && !allowed) throw new Error(`${said}: the filter allows what the authority denies`);
      if (allowed && !passes) throw new Error(`${said}: the filter denies what the authority allows`);
      if (allowed) totals.allowed++;
      else totals.denied++;
    }
  });
}

describe(`${POLICIES} policies, ${REQUESTS} requests each`, () => {
  test('authority, filter and documentation agree', () => {
    holdProperty(FILE, 'authority, filter and documentation agree', agreement(filters), { numRuns: POLICIES });
    if (isReplaying) return;
    expect(totals.allowed + totals.denied).toBe(POLICIES * REQUESTS);
    // Neither all of one kind nor nearly so: both answers are worth something.
    expect(totals.allowed).toBeGreaterThan(POLICIES * REQUESTS * 0.05);
    expect(totals.denied).toBeGreaterThan(POLICIES * REQUESTS * 0.05);
  });

  test('decisions are the same on every run and machine', () => {
    const hash = createHash('sha256');
    for (const [at, policy] of fc.sample(policies, { numRuns: 50, seed: 1 }).entries()) {
      const decide = authority(policy);
      for (const request of requests(at, REQUESTS)) hash.update(decide(request) ? '1' : '0');
    }
    expect(hash.digest('hex')).toMatchInlineSnapshot(
      `"4fa199acc8e8f4af2c2be38164aecd8c90489ec7b3f8d2cf5313f9d3a836447f"`,
    );
  });
});

/** Rules of a policy as changed by `change`, before a filter is derived. */
function filtersOf(change: (policy: Policy) => Policy): Decider {
  return (policy) => filters(change(policy));
}

describe('a broken party is caught', () => {
  const broken: Record<string, Decider> = {
    'a filter without the denials': filtersOf((policy) => ({
      ...policy,
      rules: policy.rules.filter(({ effect }) => effect === 'allow'),
    })),
    'a filter whose last match wins': filtersOf((policy) => ({ ...policy, rules: policy.rules.toReversed() })),
    'a filter that allows by default': (policy) => {
      const allows = filters(policy);
      const named = (request: Request) => policy.rules.some(({ operations }) => operations.includes(request.operation));
      return (request) => allows(request) || !named(request);
    },
    'a filter of another subject': (policy) => {
      const filter = deriveFilter(policy, 'updated');
      return ({ operation, path }) => filter.allows(operation, path);
    },
    'a filter that takes a put for a get': (policy) => {
      const allows = filters(policy);
      return (request) => allows(request.operation === 'put' ? { ...request, operation: 'get' } : request);
    },
    'a filter whose trees end anywhere': (policy) => {
      const allows = filters(policy);
      return (request) => allows(request) || allows({ ...request, path: request.path.replace('calculator', 'calc') });
    },
    'a filter that takes a malformed path': (policy) => {
      const allows = filters(policy);
      return (request) => allows({ ...request, path: request.path.replace('/../b', '') });
    },
    'a filter that has lost its first rule': filtersOf((policy) => ({ ...policy, rules: policy.rules.slice(1) })),
  };

  test.each(Object.keys(broken))('%s', (name) => {
    expect(isCaught(agreement(broken[name] as Decider), { numRuns: 300, seed: 1 })).toBe(true);
  });

  test('an authority that takes anything for a tree', () => {
    const loose: Decider = (policy) => {
      const decide = authority(policy);
      return (request) => decide(request) || decide({ ...request, path: `${request.path}/a` });
    };
    expect(isCaught(agreement(filters, loose), { numRuns: 300, seed: 1 })).toBe(true);
  });
});
