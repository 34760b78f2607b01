// What the tests take from vitest, for tests that are collected once and run many times in one process.
import { format } from 'node:util';
import { JestAsymmetricMatchers, JestChaiExpect, JestExtend, setState } from '@vitest/expect';
import { spyOn } from '@vitest/spy';
import * as chai from 'chai';

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

setState({ assertionCalls: 0 }, chai.expect);
export const { expect } = chai;
export const vi = { spyOn };

const NO_HOOKS = { beforeEach: [], afterEach: [] };
let tests = [];
let file = '';
let path = [];
let hooks = NO_HOOKS;

/** The tests registered since the last call: `{ id, name, fileName, isSkipped, run }`. */
export function takeTests() {
  const taken = tests;
  tests = [];
  return taken;
}

/** What registers from now on belongs to `name`. */
export function beginFile(name) {
  file = name;
  // Loading may have ended within a describe.
  path = [];
  hooks = NO_HOOKS;
}

/** `name` for one row: `%s` and its like take the row's values in turn, `$key` a value of its object. */
function titleOf(name, row, number) {
  const values = Array.isArray(row) ? row : [row];
  const numbered = name.replaceAll('%#', String(number));
  const places = numbered.match(/%[sdifjoO]/g)?.length ?? 0;
  return format(numbered, ...values.slice(0, places)).replace(/\$(\w+)/g, (text, key) =>
    values[0] !== null && typeof values[0] === 'object' && key in values[0] ? String(values[0][key]) : text,
  );
}

function eachOf(register) {
  return (rows) => (name, body) => {
    rows.forEach((row, number) => {
      register(titleOf(name, row, number), () => body(...(Array.isArray(row) ? row : [row])));
    });
  };
}

function add(name, body, isSkipped) {
  const title = [...path, name].join(' > ');
  const taken = tests.filter((one) => one.fileName === file && one.title === title).length;
  const around = hooks;
  const run = async () => {
    for (const before of around.beforeEach) await before();
    try {
      await body({});
    } finally {
      for (const after of around.afterEach) await after();
    }
  };
  const id = `${file} > ${title}${taken === 0 ? '' : ` #${taken + 1}`}`;
  tests.push({ id, name: id, shortName: name, title, fileName: file, isSkipped, run });
}

export const it = Object.assign((name, body) => add(name, body, false), {
  each: eachOf((name, body) => add(name, body, false)),
  skip: (name, body) => add(name, body, true),
});
export const test = it;

export function describe(name, body) {
  const outer = { path, hooks };
  path = [...path, name];
  hooks = { beforeEach: [...hooks.beforeEach], afterEach: [...hooks.afterEach] };
  body();
  ({ path, hooks } = outer);
}
describe.each = eachOf(describe);

function hookOf(kind) {
  return (hook) => {
    if (path.length === 0) throw new Error(`mutation: ${kind} outside of a describe is not known here`);
    hooks[kind].push(hook);
  };
}
export const beforeEach = hookOf('beforeEach');
export const afterEach = hookOf('afterEach');
/** The process ends all the same. */
export function afterAll() {}
