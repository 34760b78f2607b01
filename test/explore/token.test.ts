import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CodedError } from '../../src/core/index.ts';
import { type Case, decodeToken, encodeToken, explore, type Linearity, replay } from '../../src/explore/index.ts';
import { withoutTrailingZeros } from '../../src/explore/token.ts';
import { register } from './model-stores.ts';

const level = fc.record({
  cut: fc.integer({ min: -1, max: 500 }),
  choices: fc.array(fc.oneof(fc.constant(0), fc.nat({ max: 300 })), { maxLength: 300 }),
});
const aCase: fc.Arbitrary<Case> = fc.record({
  scenario: fc.string({ unit: 'grapheme' }),
  settings: fc.dictionary(fc.string(), fc.string(), { maxKeys: 5, noNullPrototype: true }),
  profile: fc.string(),
  linear: fc.constantFrom<Linearity>(false, 'whole', 'torn'),
  fingerprint: fc.nat({ max: 0xffff_ffff }),
  crashPoint: fc.maxSafeNat(),
  levels: fc.array(level, { minLength: 1, maxLength: 4 }),
});

describe('tokens', () => {
  it('come back as they were, up to zeros at the end of a list', () => {
    fc.assert(
      fc.property(aCase, (theCase) => {
        const token = encodeToken(theCase);
        expect(token).toMatch(/^pc1\.[\w-]+$/);
        const levels = theCase.levels.map((l) => ({ ...l, choices: withoutTrailingZeros(l.choices) }));
        expect(decodeToken(` ${token}\n`)).toEqual({ ...theCase, levels });
      }),
    );
  });
  it('anything else is refused with a coded error, in one line', () => {
    const refused = (token: string) => {
      try {
        decodeToken(token);
      } catch (error) {
        expect(error).toBeInstanceOf(CodedError);
        expect(error).toMatchObject({ code: 'EINVAL', message: expect.stringMatching(/^token: [^\n]*$/) });
        return true;
      }
      return false;
    };
    const token = encodeToken({
      scenario: 's',
      settings: {},
      profile: 'p',
      linear: false,
      fingerprint: 1,
      crashPoint: 2,
      levels: [{ choices: [1], cut: -1 }],
    });
    for (const bad of ['', 'pc1.', 'pc2.AAAA', token.slice(0, -1), `${token}A`, `pc1.${'A'.repeat(100_000)}`]) {
      expect(refused(bad)).toBe(true);
    }
    fc.assert(fc.property(fc.string(), (text) => refused(text) && refused(`pc1.${text}`)));
    fc.assert(
      fc.property(fc.nat({ max: token.length - 5 }), fc.constantFrom('A', 'b', '7', '_'), (at, letter) => {
        const changed = `${token.slice(0, at + 4)}${letter}${token.slice(at + 5)}`;
        expect(changed === token || refused(changed)).toBe(true);
      }),
    );
  });
  it('a list whose length lies is refused before it is built', () => {
    const theCase: Case = {
      scenario: 's',
      settings: {},
      profile: 'p',
      linear: false,
      fingerprint: 0,
      crashPoint: 0,
      levels: [{ choices: new Array(2 ** 21).fill(1), cut: -1 }],
    };
    expect(() => decodeToken(encodeToken(theCase))).toThrow(/at most 1048576/);
  });
  it('of another scenario, workload or crash point is told so', () => {
    const broken = register('ordered', 'no flush before commit');
    const { token } = explore(broken).violations[0]!;
    const theCase = decodeToken(token);
    const changed = (change: Partial<Case>) => encodeToken({ ...theCase, ...change });
    expect(() => replay(broken, changed({ scenario: 'another' }))).toThrow(/of scenario "another"/);
    expect(() => replay(broken, changed({ fingerprint: 5 }))).toThrow(/workload/);
    expect(() => replay(broken, changed({ crashPoint: 99 }))).toThrow(/no crash point 99/);
    expect(() => replay(broken, changed({ levels: [{ choices: [77], cut: -1 }] }))).toThrow(/expected 0 to/);
    expect(() => replay(broken, changed({ profile: 'floppy' }))).toThrow(/profile/);
  });
});
