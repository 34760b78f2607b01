import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';

/** Set it to write the pages anew, and read what has changed: each line says what has to be. */
const REGENERATE = 'POWERCUT_REGENERATE_PAGES';

const LARGE_CLASS = 9;
const LINE_CHARACTERS = 116;

/** Cases by their outcome; those of the largest class are not named. */
function pageOf(title: string, cases: ReadonlyMap<string, string>): string {
  const byOutcome = new Map<string, string[]>();
  for (const [name, text] of cases) byOutcome.set(text, [...(byOutcome.get(text) ?? []), name]);
  const most = Math.max(...[...byOutcome.values()].map(({ length }) => length));
  const parts = [...byOutcome].map(([text, names]) => {
    const isUsual = names.length === most && most > LARGE_CLASS;
    const who = isUsual ? `  ${names[0]}, and the other ${most - 1}:\n` : folded(names);
    return `${who}    ${text.replaceAll('\n', '\n    ')}\n`;
  });
  return `${title}\n${parts.join('')}`.trimEnd();
}

function folded(names: readonly string[]): string {
  let text = '';
  let line = '';
  for (const name of names) {
    if (line !== '' && line.length + name.length > LINE_CHARACTERS) {
      text += `  ${line},\n`;
      line = '';
    }
    line += line === '' ? name : `, ${name}`;
  }
  return `${text}  ${line}:\n`;
}

/** Holds what came of each case to the page of that title in `place`, a file of such pages. */
export function expectPage(place: URL, title: string, cases: ReadonlyMap<string, string>): void {
  const page = pageOf(title, cases);
  const pages = existsSync(place) ? readFileSync(place, 'utf8').trimEnd().split('\n\n') : [];
  const found = pages.findIndex((one) => one.startsWith(`${title}\n`));
  if (process.env[REGENERATE] === undefined) {
    expect(page.split('\n')).toEqual(pages[found]?.split('\n'));
    return;
  }
  pages.splice(found < 0 ? pages.length : found, found < 0 ? 0 : 1, page);
  writeFileSync(place, `${pages.join('\n\n')}\n`);
}
