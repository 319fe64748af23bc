/** Looks through a JSON Schema for what people are meant to read. */

type Schema = Readonly<Record<string, unknown>>;

/** Keywords whose value is a schema, and those that hold several, by name or in a list. */
const single = ['items', 'additionalProperties', 'propertyNames', 'contains', 'not', 'if', 'then', 'else'];
const several = ['properties', 'patternProperties', '$defs', 'prefixItems', 'anyOf', 'allOf', 'oneOf'];

/**
 * Paths of properties, at any depth and in any branch, that say nothing about themselves. A `$ref` does not count:
 * the words of what it refers to fit every place that does so, and tell none from the others.
 */
export function propertiesWithoutDescription(schema: unknown, path = ''): string[] {
  if (typeof schema !== 'object' || schema === null) return [];
  const fields = schema as Schema;
  const bare = Object.entries((fields['properties'] ?? {}) as Schema)
    .filter(([, property]) => !(property as { description?: string }).description?.trim())
    .map(([name]) => `${path}/properties/${name}`);
  const inside = [
    ...single.map((keyword) => [keyword, fields[keyword]] as const),
    ...several.flatMap((keyword) =>
      Object.entries((fields[keyword] ?? {}) as Schema).map(
        ([name, each]) => [`${keyword}/${name}`, each] as const,
      ),
    ),
  ];
  return [
    ...bare,
    ...inside.flatMap(([name, each]) => propertiesWithoutDescription(each, `${path}/${name}`)),
  ];
}
