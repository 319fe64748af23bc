# Repeater's image: the runtime, the production modules and the sources, which Node runs as they are.
# No configuration and no key is ever built in; everything comes from the environment at run time.

FROM node:24-alpine AS modules
WORKDIR /app
COPY package.json package-lock.json ./
# Without development dependencies there is no embedded PostgreSQL: the image needs DATABASE_URL. What is removed are
# optional companions of other packages, 35 of 89 MB, that npm brings because the lock file has them and nothing loads,
# and of analytics.js all but the 0.3 MB that browsers are given.
RUN npm ci --omit=dev --no-audit --no-fund && npm cache clean --force \
  && rm -rf node_modules/typescript node_modules/zod node_modules/@types \
  && cd node_modules/@segment && rm -rf facade analytics.js-video-plugins isodate isodate-traverse \
  && cd analytics-next && rm -rf src dist/cjs dist/pkg dist/types dist/umd/*.map dist/umd/*.gz

FROM node:24-alpine
ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    PORT=8080
WORKDIR /app
COPY --from=modules /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY migrations ./migrations
COPY schemas ./schemas
COPY src ./src
RUN mkdir -p node_modules/.cache/repeater && chown node node_modules/.cache/repeater
USER node
# Compiled here once and not at each start; then closed, since a running container writes nothing.
RUN NODE_COMPILE_CACHE=node_modules/.cache/repeater \
  node -e 'Promise.all(["command-line", "start"].map((name) => import(`./src/cli/${name}.ts`))).then(() => process.exit())' \
  && chmod -R a-w node_modules/.cache/repeater
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/livez`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "src/main.ts"]
CMD ["serve"]
