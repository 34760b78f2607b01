/** A piece of source text: a word, a string (without its quotes), or one character of anything else. */
export interface Token {
  readonly kind: 'word' | 'string' | 'mark';
  readonly text: string;
  readonly line: number;
}

const WORD = /[\p{ID_Start}$_#][\p{ID_Continue}$]*|\d[\w.]*/uy;
const SPACE = /\s+/y;
const COMMENT = /\/\/[^\n]*|\/\*[\s\S]*?\*\//y;
const STRING = /'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/y;
const REGEXP = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
/** After these a slash begins a regular expression, after everything else it divides. */
const BEFORE_REGEXP = /^(?:[(,=:[!&|?{};+\-*%<>~^]|return|typeof|case|in|of|void|delete)$/;

/**
 * Splits TypeScript into tokens, without comments, regular expressions and the text of templates; the code inside
 * `${}` is kept. Enough of a lexer to see what a file imports and calls.
 */
export function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  let line = 1;
  /** For each template that we are inside of: how many braces are open in its current `${`. */
  const templates: number[] = [];

  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0];
  };
  const skip = (text: string) => {
    at += text.length;
    for (const character of text) if (character === '\n') line++;
  };
  const push = (kind: Token['kind'], text: string) => tokens.push({ kind, text, line });
  /** Skips a template's text, from after its opening or a `}`, up to its end or the next `${`. */
  const skipTemplate = () => {
    while (at < source.length) {
      const here = source.slice(at, at + 2);
      if (here[0] === '\\') skip(here);
      else if (here[0] === '`') {
        skip('`');
        return;
      } else if (here === '${') {
        skip(here);
        templates.push(0);
        return;
      } else skip(here[0] ?? '');
    }
  };
  const skipMark = (mark: string) => {
    skip(mark);
    const braces = templates.at(-1);
    if (mark === '`') skipTemplate();
    else if (mark === '}' && braces === 0) {
      templates.pop();
      skipTemplate();
    } else {
      if (braces !== undefined && mark === '{') templates[templates.length - 1] = braces + 1;
      if (braces !== undefined && mark === '}') templates[templates.length - 1] = braces - 1;
      push('mark', mark);
    }
  };

  while (at < source.length) {
    const blank = match(SPACE) ?? match(COMMENT);
    if (blank !== undefined) {
      skip(blank);
      continue;
    }
    const regexp = BEFORE_REGEXP.test(tokens.at(-1)?.text ?? ';') ? match(REGEXP) : undefined;
    const string = regexp ?? match(STRING);
    const word = match(WORD);
    if (regexp !== undefined) push('string', '');
    else if (string !== undefined) push('string', string.slice(1, -1));
    else if (word !== undefined) push('word', word);
    if (string !== undefined || word !== undefined) skip(string ?? word ?? '');
    else skipMark(source[at] ?? '');
  }
  return tokens;
}
