import { writeFileSync } from 'node:fs';
import { messageOf } from '../core/index.ts';
import type { CrashPointResult, ExploreResult } from '../explore/index.ts';
import { misuse } from './scenarios.ts';

/** A violation as CI shows it. */
export interface JUnitFailure {
  readonly crashPoint: number;
  readonly message: string;
  /** Several lines. */
  readonly text: string;
}

/**
 * A result as JUnit XML, the form that CI systems read (https://github.com/testmoapp/junitxml): a test case for each
 * crash point, and one that stands for completeness.
 * @param isCompleteRequired whether it is a failure not to be complete; otherwise it is a skipped case
 */
export function junitOf(result: ExploreResult, failures: readonly JUnitFailure[], isCompleteRequired: boolean): string {
  const cases = result.points.map((point) => caseOfPoint(result, point, failures));
  cases.push(caseOfCompleteness(result, isCompleteRequired));
  const { strategy, depth, profile, recoveries, images, settings } = result;
  const properties = { strategy, depth, profile, recoveries, images, ...settings };
  return suiteOf(result.scenario, properties, cases, result.elapsedMs);
}

/** A failure of random cases, and what the fuzzer said of it. */
export interface FuzzJUnitFailure {
  readonly message: string;
  /** Several lines. */
  readonly text: string;
}

/** A run of the fuzzer as JUnit XML: a test case for each failure, and one that stands for all cases without. */
export function fuzzJUnitOf(
  properties: Readonly<Record<string, unknown>>,
  failures: readonly FuzzJUnitFailure[],
  elapsedMs: number,
): string {
  const cases = failures.map(({ message, text }, at) =>
    testCase('fuzz', `failure ${at + 1}: ${message}`, [element('failure', 'violation', message, text)]),
  );
  if (failures.length === 0) cases.push(testCase('fuzz', 'random cases', []));
  return suiteOf('fuzz', properties, cases, elapsedMs);
}

function suiteOf(
  name: string,
  properties: Readonly<Record<string, unknown>>,
  cases: readonly string[],
  elapsedMs: number,
): string {
  const count = (tag: string) => cases.filter((text) => text.includes(`<${tag} `)).length;
  const seconds = (elapsedMs / 1000).toFixed(3);
  const totals = `tests="${cases.length}" failures="${count('failure')}" errors="${count('error')}" skipped="${count('skipped')}" time="${seconds}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="powercut" ${totals}>`,
    `<testsuite name=${attribute(name)} ${totals}>`,
    '<properties>',
    ...Object.entries(properties).map(([key, value]) => `<property name="${key}" value=${attribute(String(value))}/>`),
    '</properties>',
    ...cases,
    '</testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

/** @throws CodedError EINVAL where the file can't be written */
export function writeJUnit(path: string, xml: string): void {
  try {
    writeFileSync(path, xml);
  } catch (error) {
    throw misuse(`--junit: ${path} can't be written: ${messageOf(error)}`, error);
  }
}

function caseOfPoint(result: ExploreResult, point: CrashPointResult, failures: readonly JUnitFailure[]): string {
  const name = `crash point ${point.index}: ${point.label}`;
  const here = failures.filter(({ crashPoint }) => crashPoint === point.index);
  const parts: string[] = [];
  const { nondeterminism } = result;
  if (nondeterminism?.crashPoint === point.index) {
    parts.push(
      element('error', 'nondeterminism', nondeterminism.message, `two runs differ at step ${nondeterminism.step}`),
    );
  }
  const [first] = here;
  if (first !== undefined) {
    parts.push(element('failure', 'violation', first.message, here.map(({ text }) => text).join('\n\n')));
  } else if (point.violations > 0) {
    parts.push(element('failure', 'violation', `${point.violations} recoveries violate the invariant`, ''));
  }
  return testCase(result.scenario, name, parts);
}

function caseOfCompleteness(result: ExploreResult, isRequired: boolean): string {
  const reason = result.incompleteReason;
  const parts =
    reason === undefined
      ? []
      : [element(isRequired ? 'failure' : 'skipped', 'incomplete', `incomplete: ${reason}`, '')];
  return testCase(result.scenario, 'every crash was explored', parts);
}

function testCase(scenario: string, name: string, parts: readonly string[]): string {
  const head = `<testcase classname=${attribute(scenario)} name=${attribute(name)}`;
  return parts.length === 0 ? `${head}/>` : [`${head}>`, ...parts, '</testcase>'].join('\n');
}

function element(tag: string, type: string, message: string, text: string): string {
  return `<${tag} type="${type}" message=${attribute(message)}>${escaped(text)}</${tag}>`;
}

function attribute(text: string): string {
  return `"${escaped(text).replaceAll('"', '&quot;').replaceAll('\n', '&#10;').replaceAll('\t', '&#9;')}"`;
}

/** What XML 1.0 has no characters for (section 2.2) becomes a replacement character. */
function escaped(text: string): string {
  return text
    .toWellFormed()
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
}
