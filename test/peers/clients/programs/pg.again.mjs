import pg from 'pg';

const options = (to) => ({
  host: 'localhost',
  port: to.port,
  user: 'test',
  database: 'postgres',
  ssl: true,
});
/** A sequence tells how often it was carried out: what it gave is given, also where a transaction is undone. */
const QUERY = `SELECT repeat(chr(65 + n % 26), 1000) AS text, (SELECT nextval('seen'))
  FROM generate_series(1, 60) AS n`;
const text = ({ rows }) => Buffer.from(rows.map(({ text }) => text).join(''));

async function use(client, query) {
  client.on('error', () => {});
  try {
    return await query(client);
  } finally {
    await client.end().catch(() => {});
  }
}

export const again = {
  "a Client's query": (to) =>
    use(new pg.Client(options(to)), async (client) => {
      await client.connect();
      return text(await client.query(QUERY));
    }),
  "a Pool's query": (to) =>
    use(new pg.Pool(options(to)), async (pool) => text(await pool.query(QUERY))),
};

export const seen = (to) =>
  use(new pg.Client(options(to)), async (client) => {
    await client.connect();
    await client.query('CREATE SEQUENCE IF NOT EXISTS seen');
    const { rows } = await client.query('SELECT last_value, is_called FROM seen');
    return rows[0].is_called ? Number(rows[0].last_value) : 0;
  });
