import { existsSync, statSync } from 'node:fs';
import { isAbsolute, relative, resolve } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { CodedError, describeValue, messageOf } from '../core/index.ts';
import type { Scenario } from '../explore/index.ts';
import type { CommitMode, StoreRules } from '../statefs/index.ts';
import {
  brokenRules,
  importBreaks,
  importScenario,
  mediaBreaks,
  mediaScenario,
  type RepairCase,
  repairBreaks,
  repairScenario,
  repairs,
  type ScrubCase,
  type ServiceBreak,
  scrubBreaks,
  scrubScenario,
  scrubs,
  serviceBreaks,
  serviceScenario,
  services,
  stateFsScenario,
  workloads,
} from '../testing/index.ts';

/** What a scenario is made from, beside its name; kept in tokens. */
export interface ScenarioSettings {
  readonly commit: CommitMode;
  readonly sizeBytes: number | undefined;
  /** Name of a rule to take away from the store. */
  readonly broken: string | undefined;
}

/** The scenarios that ship with powercut, by name. */
const SHIPPED: readonly Readonly<Record<string, unknown>>[] = [
  workloads,
  services,
  repairs,
  scrubs,
  { import: importScenario, media: mediaScenario },
];
/** The folder of powercut's own code. */
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SCRIPT = /\.[cm]?[jt]s$/;
const CAPABILITIES = ['core', 'blockdev', 'envelope', 'faults', 'virtio', 'statefs', 'explore', 'serve', 'testing'];

/**
 * The scenario of that name, or of that file.
 * @throws CodedError EINVAL, one line, for what is neither
 */
export async function loadScenario(name: string, settings: ScenarioSettings): Promise<Scenario> {
  if (Object.hasOwn(workloads, name)) return builtIn(name, settings);
  if (Object.hasOwn(services, name)) return builtInService(name, settings);
  if (Object.hasOwn(repairs, name)) return builtInRepair(name, settings);
  if (Object.hasOwn(scrubs, name)) return builtInScrub(name, settings);
  if (name === 'import') return builtInImport(name, settings);
  if (name === 'media') return builtInMedia(name, settings);
  if (SCRIPT.test(name)) return fromFile(name, settings);
  const near = ['.ts', '.js', '.mts', '.mjs'].map((ending) => `${name}${ending}`).find((file) => existsSync(file));
  throw misuse(
    `scenario: expected one of ${SHIPPED.flatMap(Object.keys).join(', ')}, or a .ts or .js file, got ${describeValue(name)}` +
      (near === undefined ? '' : `: did you mean ./${near}?`),
  );
}

/**
 * How a token names the scenario of that name: undefined for one that ships with powercut, a relative path for a script
 * at or below the current folder, and '' for one elsewhere, which the token then leaves to be named again.
 */
export function tokenPath(name: string): string | undefined {
  if (!SCRIPT.test(name)) return undefined;
  const path = relative(process.cwd(), resolve(name));
  return path.startsWith('..') || isAbsolute(path) ? '' : path;
}

/** Whether a scenario of that name ships with powercut. */
export function isShipped(name: string): boolean {
  return SHIPPED.some((shipped) => Object.hasOwn(shipped, name));
}

/** What is taken away by `--break NAME`, in words. */
export function whatBreaks(name: string): string {
  return (
    brokenRules[name]?.what ??
    repairBreaks[name]?.what ??
    scrubBreaks[name]?.what ??
    importBreaks[name]?.what ??
    mediaBreaks[name]?.what ??
    serviceBreaks[name as ServiceBreak]
  );
}

function builtIn(name: string, settings: ScenarioSettings): Scenario {
  const { broken, sizeBytes } = settings;
  if (sizeBytes !== undefined && name !== 'large-value') throw hasOwnSize(name);
  checkBreak(broken, Object.keys(brokenRules));
  const workload = orMisuse('--size', () =>
    (workloads[name] as (size?: number) => Parameters<typeof stateFsScenario>[0])(sizeBytes),
  );
  return stateFsScenario(workload, { commit: settings.commit, ...rulesWithout(broken) }) as Scenario;
}

function builtInService(name: string, settings: ScenarioSettings): Scenario {
  const { broken, sizeBytes } = settings;
  if (sizeBytes !== undefined) throw hasOwnSize(name);
  checkBreak(broken, [...Object.keys(brokenRules), ...Object.keys(serviceBreaks)]);
  const isOfService = broken !== undefined && Object.hasOwn(serviceBreaks, broken);
  const wrong = isOfService ? { broken: broken as ServiceBreak } : rulesWithout(broken);
  const workload = services[name] as Parameters<typeof serviceScenario>[0];
  return serviceScenario(workload, { commit: settings.commit, ...wrong }) as Scenario;
}

function builtInRepair(name: string, { broken, sizeBytes }: ScenarioSettings): Scenario {
  if (sizeBytes !== undefined) throw hasOwnSize(name);
  checkBreak(broken, Object.keys(repairBreaks));
  const wrong = broken === undefined ? undefined : repairBreaks[broken];
  return repairScenario(repairs[name] as RepairCase, wrong ?? {}) as Scenario;
}

function builtInScrub(name: string, { broken, sizeBytes }: ScenarioSettings): Scenario {
  if (sizeBytes !== undefined) throw hasOwnSize(name);
  checkBreak(broken, Object.keys(scrubBreaks));
  const rules = broken === undefined ? undefined : scrubBreaks[broken]?.rules;
  return scrubScenario(scrubs[name] as ScrubCase, rules === undefined ? {} : { rules }) as Scenario;
}

function builtInImport(name: string, { broken, sizeBytes }: ScenarioSettings): Scenario {
  if (sizeBytes !== undefined) throw hasOwnSize(name);
  checkBreak(broken, Object.keys(importBreaks));
  return importScenario(broken === undefined ? {} : { broken }) as Scenario;
}

function builtInMedia(name: string, { broken, sizeBytes, commit }: ScenarioSettings): Scenario {
  if (sizeBytes !== undefined) throw hasOwnSize(name);
  checkBreak(broken, [...Object.keys(brokenRules), ...Object.keys(mediaBreaks)]);
  const rules = broken === undefined ? undefined : (mediaBreaks[broken] ?? brokenRules[broken])?.rules;
  return mediaScenario({ commit, ...(rules === undefined ? {} : { rules }) }) as Scenario;
}

function checkBreak(broken: string | undefined, names: readonly string[]): void {
  if (broken === undefined || names.includes(broken)) return;
  throw misuse(`--break: expected one of ${names.join(', ')}, got ${describeValue(broken)}`);
}

function rulesWithout(broken: string | undefined): { rules?: StoreRules } {
  const rules = broken === undefined ? undefined : brokenRules[broken]?.rules;
  return rules === undefined ? {} : { rules };
}

function hasOwnSize(name: string): CodedError {
  return misuse(`--size: ${name} has a size of its own; large-value takes one`);
}

async function fromFile(path: string, settings: ScenarioSettings): Promise<Scenario> {
  if (settings.broken !== undefined) throw misuse('--break: it goes with the scenarios that ship with powercut');
  const file = resolve(path);
  if (!existsSync(file) || !statSync(file).isFile()) throw misuse(`scenario: there is no file ${file}`);
  const module = await importScript(file);
  const exported = exportOf(module);
  const made =
    typeof exported === 'function' ? await call(exported as (options: unknown) => unknown, settings, path) : exported;
  return checkShape(made, path, Object.keys(module));
}

/** Loads a TypeScript or JavaScript file; it finds `powercut/...` in this very package, installed beside it or not. */
async function importScript(file: string): Promise<Record<string, unknown>> {
  const { createJiti } = await import('jiti');
  const alias = Object.fromEntries(CAPABILITIES.map((name) => [`powercut/${name}`, resolve(ROOT, name, 'index.js')]));
  const jiti = createJiti(import.meta.url, { alias, fsCache: false, moduleCache: false, interopDefault: false });
  try {
    return await jiti.import<Record<string, unknown>>(file);
  } catch (error) {
    throw misuse(`scenario ${file} can't be loaded: ${oneLine(messageOf(error))}`, error);
  }
}

/** The scenario, or what makes it. All that a CommonJS file exports stands under `default`. */
function exportOf(module: Readonly<Record<string, unknown>>): unknown {
  const { default: main, scenario } = module;
  if (typeof main !== 'object' || main === null || 'recover' in main) return main ?? scenario;
  const { default: inner, scenario: named } = main as Readonly<Record<string, unknown>>;
  return inner ?? named ?? main;
}

async function call(make: (options: unknown) => unknown, settings: ScenarioSettings, path: string): Promise<unknown> {
  try {
    return await make({ commit: settings.commit, sizeBytes: settings.sizeBytes });
  } catch (error) {
    throw misuse(`scenario ${path}: its function threw: ${firstLine(messageOf(error))}`, error);
  }
}

function checkShape(value: unknown, path: string, exported: readonly string[]): Scenario {
  if (typeof value !== 'object' || value === null) {
    const there = value === undefined && exported.length > 0 ? `; it exports ${exported.join(', ')}` : '';
    throw misuse(
      `scenario ${path}: expected a scenario as default export or as export "scenario", got ${describeValue(value)}${there}`,
    );
  }
  for (const name of ['format', 'workload', 'recover', 'invariant']) {
    if (typeof (value as Record<string, unknown>)[name] !== 'function') {
      throw misuse(
        `scenario ${path}: expected a function "${name}", got ${describeValue((value as Record<string, unknown>)[name])}`,
      );
    }
  }
  return value as Scenario;
}

/**
 * What a scenario threw outside of its recovery, as one line that says where: the author needs no stack through powercut.
 * An error about the scenario or the token passes through; one of a device or a store is the scenario's doing.
 */
export function scenarioFailure(name: string, error: unknown): unknown {
  const isOurs = error instanceof CodedError && error.constructor === CodedError;
  if (tokenPath(name) === undefined || isOurs) return error;
  return misuse(`scenario ${name}: it threw outside of its recovery: ${lineOf(error)}`, error);
}

/** An error in one line, with the place outside of powercut that it comes from. */
export function lineOf(error: unknown): string {
  const place = placeOf(error);
  return `${firstLine(messageOf(error))}${place === undefined ? '' : ` (${place})`}`;
}

/** File and line where an error was thrown: the innermost that are not powercut's own. */
export function placeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  for (const [, at, line] of String(error.stack).matchAll(/^\s+at (.*\.[cm]?[jt]s):(\d+):\d+\)?$/gm)) {
    const file = (at as string).replace(/^.*?(?=file:\/\/|\/)/, '');
    const path = file.startsWith('file:') ? fileURLToPath(file) : file;
    if (isAbsolute(path) && !path.startsWith(ROOT)) return `${relative(process.cwd(), path)}:${line}`;
  }
  return undefined;
}

function orMisuse<T>(label: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw misuse(`${label}: ${messageOf(error)}`, error);
  }
}

function firstLine(text: string): string {
  return (text.split('\n').find((line) => line.trim() !== '') ?? text).trim();
}

/** The parser puts the place on a line of its own, the resolver where it was asked from: nothing of it is spared. */
function oneLine(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .join(' ');
}

/** What the caller of the command did wrong: one line, exit code 2. */
export function misuse(message: string, cause?: unknown): CodedError {
  return new CodedError('EINVAL', message, cause === undefined ? undefined : { cause });
}
